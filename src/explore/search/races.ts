/** Finds the pairs of steps of a run that could have come in the other order. */
import { type Op, OpKind } from '../../task/op.ts';
import { TaskHandle } from '../../task/task-handle.ts';
import { Access, accessAtMost, isAcquire, isConditional, type PlannedStep, rules } from '../world/access.ts';
import type { Execution } from '../world/execution.ts';
import type { InvariantScopes } from '../world/invariant-scopes.ts';
import type { StepLog } from '../world/step-log.ts';

/**
 * Called for each pair. `earlier` is a step of the run, and `later` the index of the step that overtakes it, or -1 if
 * that step never came. `step` is the most that it may touch in the other order, and `least` the least, or null if
 * `step` is exact. The callback makes copies to keep them.
 */
export type OnRace = (earlier: number, later: number, step: PlannedStep, least: PlannedStep | null) => void;

/** Invariants may see the step, whatever they saw in other orders. */
const EVERY = -1;
/** The object of a step that may touch nothing. */
const NO_OBJECT = -1;

export class Races {
  private readonly log: StepLog;
  private readonly clock = new Int32Array(64);
  /** The later step of the pair that is reported, by its bounds. */
  private readonly step = { task: 0, object: 0, access: 0, peer: -1, seenBy: 0 };
  private readonly lower = { task: 0, object: 0, access: 0, peer: -1, seenBy: 0 };
  private least: PlannedStep | null = null;
  private readonly scopes: Pick<InvariantScopes, 'all' | 'maskOf'>;

  /** `scopes` are the objects that invariants look at. Which invariants see a step may differ between orders. */
  constructor(log: StepLog, scopes: Pick<InvariantScopes, 'all' | 'maskOf'>) {
    this.log = log;
    this.scopes = scopes;
  }

  /** Finds races of the steps from index `from` on, and of the steps that unfinished tasks wait to take. */
  find(execution: Execution, from: number, onRace: OnRace): void {
    const { log, step } = this;
    const isSeen = this.scopes.all.length > 0;
    for (let j = Math.max(from, 1); j < log.length; j++) {
      const kind = log.kind[j];
      step.task = log.task[j];
      step.object = log.object[j];
      step.access = isConditional(kind) ? Access.WRITE : accessAtMost(kind);
      step.peer = log.peer[j];
      step.seenBy = isSeen ? EVERY : 0;
      this.bound(kind, isSeen);
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
    for (const task of execution.unfinished()) {
      // The pending step of a task that is held back has its races where the alike task before it takes the step.
      if (!execution.isHeldBack(task)) this.ofPending(task, execution.pending[task]!, onRace);
    }
  }

  /** Sets the lower bound of `step`. */
  private bound(kind: number, isSeen: boolean): void {
    if (!isSeen && !isConditional(kind)) {
      this.least = null;
      return;
    }
    const { lower, step } = this;
    lower.task = step.task;
    // A trylock for reading may turn out as two kinds of access, and neither is less than the other.
    lower.object = kind === OpKind.TRY_READ_LOCK ? NO_OBJECT : step.object;
    lower.access = isConditional(kind) ? Access.READ : step.access;
    lower.peer = step.peer;
    lower.seenBy = isSeen && lower.access !== Access.READ ? this.scopes.maskOf(this.log.serialOf(step.object)) : 0;
    this.least = lower;
  }

  /** A task that waits for ever may have had a chance to go on earlier. */
  private ofPending(task: number, op: Op, onRace: OnRace): void {
    const log = this.log;
    // A condition that does not hold could have been asked at any time. Asking was a step, with its own races.
    if (op.object instanceof TaskHandle || op.kind === OpKind.EVALUATE || op.ready()) return;
    const object = log.slotOf(op.object.serial);
    const isSeen = this.scopes.all.length > 0;
    const { step } = this;
    Object.assign(step, { task, object, access: accessAtMost(op.kind), peer: -1, seenBy: isSeen ? EVERY : 0 });
    this.bound(op.kind, isSeen);
    log.clockOfTask(task, log.length, this.clock);
    if (op.kind === OpKind.WAIT) this.ofWait(log.overtaken(task, op, object), -1, step, onRace);
    else this.ofLock(op.kind, log.last(object), -1, step, onRace);
  }

  /**
   * A step that never waits races with all steps that it depends on, latest first, except those before another of them.
   */
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
    onRace(i, j, step, this.least);
    log.join(clock, i);
  }

  /**
   * A lock races with earlier acquires, and with trylocks that found it taken. Before an unlock it could not be taken.
   */
  private ofLock(kind: number, start: number, j: number, step: PlannedStep, onRace: OnRace): void {
    const { log, clock } = this;
    for (let i = start; i >= 0; i = log.beforeOnObject(i)) {
      if (!isAcquire(log.kind[i])) continue;
      if (kind === OpKind.READ_LOCK && log.access[i] === Access.SHARE) continue;
      if (clock[log.task[i]] <= i && this.isFree(kind, i, j, step.object)) onRace(i, j, step, this.least);
      if (log.access[i] === Access.WRITE) return;
    }
  }

  /** Whether the lock is free without step `i` and everything that must follow it. */
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
    for (const i of overtakes) if (this.clock[this.log.task[i]] <= i) onRace(i, j, step, this.least);
  }

  /** A condition over anything races with every earlier step, except those that had to wake its task. */
  private ofEvaluate(j: number, step: PlannedStep, onRace: OnRace): void {
    const { log, clock } = this;
    const wake = log.wakeBefore(j);
    for (let i = j - 1; i >= 0; i--) {
      if (clock[log.task[i]] > i || (wake >= 0 && (i === wake || log.happensBefore(i, wake)))) continue;
      this.report(i, j, step, onRace);
    }
  }

  /** Finds races with steps on other objects that `j` must follow, if `j` could be taken without them. */
  private ofOthers(j: number, onRace: OnRace, couldCome: (i: number) => boolean): void {
    const { log, clock } = this;
    for (const i of log.beforeElsewhere(j))
      if (clock[log.task[i]] <= i && couldCome(i)) onRace(i, j, this.step, this.least);
  }

  /** Whether the wait `j` can end without step `i` and everything that must follow it. */
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
