/**
 * Finds states in which every task queues (checks/fair-queues.ts), in runs that went on. A run stands for all orders
 * that commute to it. Such a state is the run without some acquires for reading and everything that must follow them. A
 * search that enters every state does not need this.
 */
import { OpKind } from '../../task/op.ts';
import { areAllQueued } from '../checks/fair-queues.ts';
import { Access } from '../world/access.ts';
import type { Execution } from '../world/execution.ts';
import type { StepLog } from '../world/step-log.ts';

/** A state, and a schedule that reaches it. */
export interface Cut {
  execution: Execution;
  schedule: number[];
}

/** The kinds of operations at which a task may wait. */
const WAITS: readonly number[] = [OpKind.LOCK, OpKind.READ_LOCK, OpKind.WAIT, OpKind.EVALUATE];

export class QueueCuts {
  private readonly log: StepLog;
  private readonly newExecution: () => Execution;

  constructor(log: StepLog, newExecution: () => Execution) {
    this.log = log;
    this.newExecution = newExecution;
  }

  /** Looks through the states of the run that has just ended. */
  find(ended: Execution): Cut | null {
    const reads = this.contendedReads(ended);
    return reads.length === 0 ? null : this.leaveOut(reads, 0, []);
  }

  /** Tries all sets of reads that are unordered among each other. */
  private leaveOut(reads: readonly number[], from: number, out: readonly number[]): Cut | null {
    for (let n = from; n < reads.length; n++) {
      const read = reads[n];
      if (out.some((other) => this.log.happensBefore(other, read))) continue;
      const more = [...out, read];
      const cut = this.cutAt(more) ?? this.leaveOut(reads, n + 1, more);
      if (cut !== null) return cut;
    }
    return null;
  }

  private cutAt(out: readonly number[]): Cut | null {
    const { log } = this;
    const schedule: number[] = [];
    const stopped = new Set<number>();
    for (let i = 0; i < log.length; i++) {
      const task = log.task[i];
      if (stopped.has(task)) continue;
      if (!out.some((read) => read === i || (read < i && log.happensBefore(read, i)))) schedule.push(task);
      else if (WAITS.includes(log.kind[i])) stopped.add(task);
      else return null;
    }
    const execution = this.newExecution();
    for (const task of schedule) {
      if (!execution.isReady(task)) return null;
      execution.step(task);
      if (execution.finding !== null) return null;
    }
    const ready = execution.order.filter((task) => execution.isReady(task));
    return areAllQueued(execution, ready) ? { execution, schedule } : null;
  }

  /** Acquires for reading while another reader stays, and a writer comes. */
  private contendedReads(ended: Execution): number[] {
    const { log } = this;
    const reads: number[] = [];
    for (let i = 0; i < log.length; i++) if (log.kind[i] === OpKind.READ_LOCK) reads.push(i);
    if (reads.length === 0) return reads;
    return reads.filter((read) => this.hasWriter(read, ended) && this.hasHolder(read, reads));
  }

  private hasWriter(read: number, ended: Execution): boolean {
    const { log } = this;
    const object = log.object[read];
    for (let i = log.last(object); i > read; i = log.beforeOnObject(i)) if (log.kind[i] === OpKind.LOCK) return true;
    return ended.order.some((task) => {
      const op = ended.pending[task];
      return op?.kind === OpKind.LOCK && log.slotOf(op.object.serial) === object;
    });
  }

  /** Whether a reader holds the lock and keeps it until some other task reads. */
  private hasHolder(read: number, reads: readonly number[]): boolean {
    const { log } = this;
    for (let i = log.last(log.object[read]); i >= 0; i = log.beforeOnObject(i)) {
      const acquires = log.kind[i] === OpKind.READ_LOCK || log.kind[i] === OpKind.TRY_READ_LOCK;
      if (!acquires || i === read || log.access[i] !== Access.SHARE || log.happensBefore(read, i)) continue;
      const release = this.releaseOf(i);
      const waitsFor = (other: number): boolean => log.happensBefore(other, release) && !log.happensBefore(other, i);
      if (release < 0 || reads.some((other) => other !== i && other < release && waitsFor(other))) return true;
    }
    return false;
  }

  /** The step that releases the read lock that step `acquire` took, or -1. */
  private releaseOf(acquire: number): number {
    const { log } = this;
    let release = -1;
    for (let i = log.last(log.object[acquire]); i > acquire; i = log.beforeOnObject(i)) {
      if (log.task[i] === log.task[acquire] && log.kind[i] === OpKind.READ_UNLOCK) release = i;
    }
    return release;
  }
}
