/** Finds the pairs of steps of a run that could have come in the other order. */
import { type Op, OpKind } from '../../task/op.ts';
import { TaskHandle } from '../../task/task-handle.ts';
import { Access, accessAtMost, isAcquire, isConditional, type PlannedStep, rules } from '../world/access.ts';
import type { Execution } from '../world/execution.ts';
import type { StepLog } from '../world/step-log.ts';

/**
 * Called for each pair: `earlier` in the run, and the step (its index, or -1 for one that never came) that overtakes.
 * `isUncertain`: the step may touch less in the other order. `step` is the most that it does there.
 */
export type OnRace = (earlier: number, later: number, step: PlannedStep, isUncertain: boolean) => void;

/** Invariants may see the step, whatever they saw of it elsewhere. */
const EVERY = -1;

export class Races {
  private readonly log: StepLog;
  private readonly clock = new Int32Array(64);
  /** The later step of the pair that is reported; the callback makes a copy to keep it. */
  private readonly step = { task: 0, object: 0, access: 0, peer: -1, seenBy: 0 };

  private isUncertain = false;
  private readonly isSeen: () => boolean;

  /** `isSeen`: invariants look at steps, and what they see of one may differ from order to order. */
  constructor(log: StepLog, isSeen: () => boolean) {
    this.log = log;
    this.isSeen = isSeen;
  }

  /** Races of the steps from `from` on, and of the steps that unfinished tasks wait to take. */
  find(execution: Execution, from: number, onRace: OnRace): void {
    const { log, step } = this;
    const isSeen = this.isSeen();
    for (let j = Math.max(from, 1); j < log.length; j++) {
      const kind = log.kind[j];
      step.task = log.task[j];
      step.object = log.object[j];
      step.access = isConditional(kind) ? Access.WRITE : accessAtMost(kind);
      step.peer = log.peer[j];
      step.seenBy = isSeen ? EVERY : 0;
      this.isUncertain = isSeen || isConditional(kind);
      log.clockOfTask(step.task, j, this.clock);
      if (kind === OpKind.WAIT) {
        this.ofWait(log.overtakes[j], j, step, onRace);
        this.ofOthers(j, onRace, (i) => this.couldPass(i, j));
      } else if (kind === OpKind.LOCK || kind === OpKind.READ_LOCK) {
        this.ofLock(kind, log.beforeOnObject(j), j, step, onRace);
        this.ofOthers(j, onRace, (i) => this.isFree(kind, i, j, step.object));
      } else if (kind === OpKind.EVALUATE) this.ofEvaluate(j, step, onRace);
      else this.ofAccess(log.beforeOnObject(j), log.access[j], j, step, onRace);
    }
    for (const task of execution.unfinished()) this.ofPending(task, execution.pending[task]!, onRace);
  }

  /** A task that waits for ever may have had its chance earlier. */
  private ofPending(task: number, op: Op, onRace: OnRace): void {
    const log = this.log;
    // A condition that was asked in vain could have been asked at any time: that was a step, with races of its own.
    if (op.object instanceof TaskHandle || op.kind === OpKind.EVALUATE || op.ready()) return;
    const object = log.slotOf(op.object.serial);
    const step: PlannedStep = {
      task,
      object,
      access: accessAtMost(op.kind),
      peer: -1,
      seenBy: this.isSeen() ? EVERY : 0,
    };
    this.isUncertain = step.seenBy !== 0;
    log.clockOfTask(task, log.length, this.clock);
    if (op.kind === OpKind.WAIT) this.ofWait(log.overtaken(task, op, object), -1, step, onRace);
    else this.ofLock(op.kind, log.last(object), -1, step, onRace);
  }

  /** A step that never waits races with all that it depends on, the latest first: what came before those does not. */
  private ofAccess(start: number, access: number, j: number, step: PlannedStep, onRace: OnRace): void {
    const { log } = this;
    const others = log.beforeElsewhere(j);
    let next = 0;
    for (let i = start; i >= 0; i = log.beforeOnObject(i)) {
      while (next < others.length && others[next] > i) this.report(others[next++], j, step, onRace);
      if (!rules.dependent(log.access[i], access)) continue;
      this.report(i, j, step, onRace);
      if (log.access[i] >= Access.WRITE) break;
    }
    while (next < others.length) this.report(others[next++], j, step, onRace);
  }

  private report(i: number, j: number, step: PlannedStep, onRace: OnRace): void {
    const { log, clock } = this;
    if (clock[log.task[i]] > i) return;
    onRace(i, j, step, this.isUncertain);
    log.join(clock, i);
  }

  /** A lock races with earlier acquires, and with tries that found it taken; before an unlock it could not be taken. */
  private ofLock(kind: number, start: number, j: number, step: PlannedStep, onRace: OnRace): void {
    const { log, clock } = this;
    for (let i = start; i >= 0; i = log.beforeOnObject(i)) {
      if (!isAcquire(log.kind[i])) continue;
      if (kind === OpKind.READ_LOCK && log.access[i] === Access.SHARE) continue;
      if (clock[log.task[i]] <= i && this.isFree(kind, i, j, step.object)) onRace(i, j, step, this.isUncertain);
      if (log.access[i] === Access.WRITE) return;
    }
  }

  /** Whether the lock could be had with step `i`, and all that comes after it by necessity, left out. */
  private isFree(kind: number, i: number, j: number, object: number): boolean {
    const { log } = this;
    let readers = 0;
    let writers = 0;
    for (let k = log.last(object); k >= 0; k = log.beforeOnObject(k)) {
      if ((j >= 0 && k >= j) || log.access[k] === Access.READ) continue;
      if (k === i || (k > i && log.happensBefore(i, k))) continue;
      const change = isAcquire(log.kind[k]) ? 1 : -1;
      if (log.access[k] === Access.SHARE) readers += change;
      else writers += change;
    }
    return writers === 0 && (kind === OpKind.READ_LOCK || readers === 0);
  }

  private ofWait(overtakes: number[] | null, j: number, step: PlannedStep, onRace: OnRace): void {
    if (overtakes === null) return;
    for (const i of overtakes) if (this.clock[this.log.task[i]] <= i) onRace(i, j, step, this.isUncertain);
  }

  /** A condition over anything races with every step before it, but for what its task had to be woken by. */
  private ofEvaluate(j: number, step: PlannedStep, onRace: OnRace): void {
    const { log, clock } = this;
    const wake = log.wakeBefore(j);
    for (let i = j - 1; i >= 0; i--) {
      if (clock[log.task[i]] > i || (wake >= 0 && (i === wake || log.happensBefore(i, wake)))) continue;
      this.report(i, j, step, onRace);
    }
  }

  /** Races with steps on other objects that `j` must follow, where `j` could be taken without them. */
  private ofOthers(j: number, onRace: OnRace, couldCome: (i: number) => boolean): void {
    const { log, clock } = this;
    for (const i of log.beforeElsewhere(j))
      if (clock[log.task[i]] <= i && couldCome(i)) onRace(i, j, this.step, this.isUncertain);
  }

  /** Whether the wait `j` could end with step `i`, and all that comes after it by necessity, left out. */
  private couldPass(i: number, j: number): boolean {
    const { log } = this;
    const peer = log.peer[j];
    if (peer >= 0) return !log.happensBefore(i, log.endOf(peer));
    let first = -1;
    for (let k = log.beforeOnObject(j); k >= i; k = log.beforeOnObject(k)) {
      if (log.access[k] === Access.WRITE && (k === i || log.happensBefore(i, k))) first = k;
    }
    return first < 0 || (log.overtakes[j]?.includes(first) ?? false);
  }
}
