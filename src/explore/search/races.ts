/** Finds the pairs of steps of a run that could have come in the other order. */

import { type Op, OpKind } from '../../task/op.ts';
import { TaskHandle } from '../../task/task-handle.ts';
import { Access, accessAtMost, isAcquire, type PlannedStep, rules } from '../world/access.ts';
import type { Execution } from '../world/execution.ts';
import type { StepLog } from '../world/step-log.ts';

/**
 * Called for each pair: `earlier` in the run, and the step (its index, or -1 for one that never came) that overtakes.
 */
export type OnRace = (earlier: number, later: number, step: PlannedStep) => void;

export class Races {
  private readonly log: StepLog;
  private readonly clock = new Int32Array(64);
  /** The one that is looked at; whoever keeps it makes a copy. */
  private readonly step = { task: 0, object: 0, access: 0, peer: -1 };

  constructor(log: StepLog) {
    this.log = log;
  }

  /** Races of the steps from `from` on, and of the steps that unfinished tasks wait to take. */
  find(execution: Execution, from: number, onRace: OnRace): void {
    const { log, step } = this;
    for (let j = Math.max(from, 1); j < log.length; j++) {
      const kind = log.kind[j];
      if (kind === OpKind.SPAWN) continue;
      step.task = log.task[j];
      step.object = log.object[j];
      step.access = Math.max(log.access[j], accessAtMost(kind));
      step.peer = log.peer[j];
      log.clockOfTask(step.task, j, this.clock);
      if (kind === OpKind.WAIT) this.ofWait(log.overtakes[j], j, step, onRace);
      else if (kind === OpKind.LOCK || kind === OpKind.READ_LOCK) {
        this.ofLock(kind, log.beforeOnObject(j), j, step, onRace);
      } else this.ofAccess(log.beforeOnObject(j), log.access[j], j, step, onRace);
    }
    for (const task of execution.unfinished()) this.ofPending(task, execution.pending[task]!, onRace);
  }

  /** A task that waits for ever may have had its chance earlier. */
  private ofPending(task: number, op: Op, onRace: OnRace): void {
    const log = this.log;
    if (op.object instanceof TaskHandle || op.ready()) return;
    const object = log.slotOf(op.object.serial);
    const step: PlannedStep = { task, object, access: accessAtMost(op.kind), peer: -1 };
    log.clockOfTask(task, log.length, this.clock);
    if (op.kind === OpKind.WAIT) this.ofWait(log.overtaken(task, op, object), -1, step, onRace);
    else this.ofLock(op.kind, log.last(object), -1, step, onRace);
  }

  private ofAccess(start: number, access: number, j: number, step: PlannedStep, onRace: OnRace): void {
    const { log, clock } = this;
    for (let i = start; i >= 0; i = log.beforeOnObject(i)) {
      if (!rules.dependent(log.access[i], access)) continue;
      if (clock[log.task[i]] <= i) {
        onRace(i, j, step);
        log.join(clock, i);
      }
      if (log.access[i] === Access.WRITE) return;
    }
  }

  /** A lock races with earlier acquires only: before an unlock it could not have been taken. */
  private ofLock(kind: number, start: number, j: number, step: PlannedStep, onRace: OnRace): void {
    const { log, clock } = this;
    for (let i = start; i >= 0; i = log.beforeOnObject(i)) {
      if (!isAcquire(log.kind[i]) || log.access[i] === Access.READ) continue;
      const isWrite = log.access[i] === Access.WRITE;
      if (kind === OpKind.READ_LOCK && !isWrite) continue;
      if (clock[log.task[i]] <= i && this.isFree(kind, i, j, step.object)) onRace(i, j, step);
      if (isWrite) return;
    }
  }

  /** Whether the lock could be had with step `i`, and all that comes after it by necessity, left out. */
  private isFree(kind: number, i: number, j: number, object: number): boolean {
    const { log } = this;
    let readers = 0;
    let writers = 0;
    for (let k = log.last(object); k >= 0; k = log.beforeOnObject(k)) {
      if (k === j || (k >= i && log.happensBefore(i, k)) || log.access[k] === Access.READ) continue;
      const change = isAcquire(log.kind[k]) ? 1 : -1;
      if (log.access[k] === Access.SHARE) readers += change;
      else writers += change;
    }
    return writers === 0 && (kind === OpKind.READ_LOCK || readers === 0);
  }

  private ofWait(overtakes: number[] | null, j: number, step: PlannedStep, onRace: OnRace): void {
    if (overtakes === null) return;
    for (const i of overtakes) if (this.clock[this.log.task[i]] <= i) onRace(i, j, step);
  }
}
