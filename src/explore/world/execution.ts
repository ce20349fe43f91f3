/**
 * One run of a program: fresh objects, and tasks that take one visible step at a time. The caller chooses the order.
 */

import { InvariantError, type Lifetime } from '../../task/lifetime.ts';
import type { Lock } from '../../task/lock.ts';
import { type Op, OpKind, type Task } from '../../task/op.ts';
import { type AccessObserver, runtime, type Touchable, unobserved } from '../../task/runtime.ts';
import { TaskHandle, type TaskHost } from '../../task/task-handle.ts';
import { TouchLog } from '../checks/data-races.ts';
import { Access, accessTaken } from './access.ts';
import type { Finding, History } from './finding.ts';
import { type InvariantScopes, type Scope, scopeOf } from './invariant-scopes.ts';
import type { KeptWorld } from './kept-world.ts';
import type { CheckPart, Glance, Program, Stage } from './program.ts';
import { SERIALS_PER_TASK, type TaskIds } from './task-ids.ts';

interface Birth {
  lifetime: Lifetime;
  bornAt: number;
}

/** What an execution works with, beside its program. */
export interface ExecutionParts {
  /** Hears of the lives of objects. */
  history?: History | null;
  /** Hears of the looks of checks. */
  scopes?: InvariantScopes | null;
  /** Whether the checks after each step are made. Default: true. */
  checks?: boolean;
  /** What earlier executions have made. Without it, everything is made anew. */
  kept?: KeptWorld | null;
  /** Whether a task must wait for the first step of the one before it in a list of alike tasks. Default: false. */
  oneOfAlike?: boolean;
}

export class Execution implements Stage, TaskHost, AccessObserver {
  readonly handles: TaskHandle[] = [];
  readonly pending: (Op | null)[] = [];
  /** Tasks in the order in which they were started; some numbers may be missing. */
  readonly order: number[] = [];
  finding: Finding | null = null;
  /** The task that the last step started, or -1. */
  spawned = -1;
  steps = 0;
  /** The invariants that look at something that the last step changed, one bit each. */
  seenBy = 0;
  /** The result of the last step. */
  result: unknown = undefined;
  /** The state that tasks share beside the objects of task/; null if the program does not declare it. */
  comparable: (() => readonly unknown[]) | null = null;
  history: History | null = null;
  /** Created at the first touch, even while the program is built. */
  private touchLog: TouchLog | null = null;
  /** The running check, or -1; its scope, or that of the running part; and the objects that it has looked at so far. */
  private checking = -1;
  /** A task evaluates a condition. Whatever it looks at, it keeps its order with every step. */
  private isAsking = false;
  private scope: Scope = 0;
  private readonly looks: number[] = [];
  private lookCount = 0;
  private readonly scopes: InvariantScopes | null;
  private readonly lockSteps: Lock[] = [];
  private readonly checks: boolean;
  private readonly kept: KeptWorld | null;
  private readonly oneOfAlike: boolean;
  /** The lists of alike tasks. */
  readonly alikes: (readonly number[])[] = [];
  /** The tasks that wait for the first step of another, and the task that each task lets go by its first step. */
  private readonly heldBack = new Set<number>();
  private readonly follower = new Map<number, number>();
  /** The task that the last step let go, or -1. */
  released = -1;
  private readonly ids: TaskIds;
  private readonly children: number[] = [];
  private readonly serials: { next: number }[] = [];
  /** The error of the last step, if it failed. */
  private error: unknown;
  /** For each object at which checks have looked in this run: one bit for each of them. */
  private readonly watched = new Map<number, number>();
  /** The checks that have looked at an object since changed, or at none at all. Others would say the same again. */
  private stale = -1;
  private isGlancing = false;
  private readonly endChecks: (() => void)[] = [];
  private readonly stepChecks: ((part: CheckPart, glance: Glance) => void)[] = [];
  private readonly alive = new Map<Lifetime, Birth>();
  private readonly joined = new Set<TaskHandle>();
  private running = -1;
  private roots = 0;

  constructor(program: Program, ids: TaskIds, parts: ExecutionParts = {}) {
    const { history = null, scopes = null, checks = true, kept = null, oneOfAlike = false } = parts;
    this.ids = ids;
    this.history = history;
    this.scopes = scopes;
    this.checks = checks;
    this.kept = kept;
    this.oneOfAlike = oneOfAlike;
    runtime.observed = true;
    runtime.current = null;
    runtime.observer = this;
    runtime.serials = { next: 0 };
    try {
      kept?.begin();
      program.build(this);
      for (const task of [...this.order]) this.start(task);
      this.check();
    } catch (error) {
      this.fail(error);
    }
  }

  born(lifetime: Lifetime): void {
    this.alive.set(lifetime, { lifetime, bornAt: this.steps });
    this.history?.note(lifetime, 'made');
  }

  died(lifetime: Lifetime): void {
    this.alive.delete(lifetime);
    this.history?.note(lifetime, 'freed');
  }

  onAccess(what: Touchable, isChange: boolean): void {
    this.touchLog ??= new TouchLog();
    if (this.checking >= 0) {
      this.look(what.serial);
      return;
    }
    if (isChange) this.stale |= this.watched.get(what.serial) ?? 0;
    if (this.running < 0 || this.isAsking) return;
    if (isChange && this.scopes !== null) this.seenBy |= this.scopes.maskOf(what.serial);
    this.touchLog.onAccess(this.running, what, isChange);
  }

  onLook(what: Touchable): void {
    if (this.checking >= 0) this.look(what.serial);
  }

  spawn<T>(label: string, task: Task<T>): TaskHandle<T> {
    const parent = this.running;
    const child = parent < 0 ? this.roots++ : this.children[parent]++;
    const id = this.ids.of(parent, child);
    const handle = new TaskHandle<T>(this, label, task);
    this.handles[id] = handle as TaskHandle;
    this.pending[id] = null;
    this.children[id] = 0;
    this.serials[id] = { next: (id + 1) * SERIALS_PER_TASK };
    this.order.push(id);
    if (parent >= 0) {
      this.spawned = id;
      this.touchLog?.started(parent, id);
      this.start(id);
      this.running = parent;
      runtime.current = this.handles[parent];
      runtime.serials = this.serials[parent];
    }
    return handle;
  }

  /** Production's wake-ups do nothing here, since the scheduler asks every guard. */
  enqueue(): void {}

  atEnd(check: () => void): void {
    this.endChecks.push(check);
  }

  afterEach(check: (part: CheckPart, glance: Glance) => void): void {
    if (this.checks) this.stepChecks.push(check);
  }

  keep<T>(make: () => T): T {
    const { kept } = this;
    if (kept === null) return make();
    const before = kept.again();
    if (before !== null) {
      runtime.serials.next = before.nextSerial;
      for (const lifetime of before.born) this.born(lifetime);
      // The log must have all steps if there was a touch.
      this.touchLog ??= new TouchLog();
      return before.value as T;
    }
    const known = new Set(this.alive.keys());
    const value = make();
    const born = [...this.alive.keys()].filter((lifetime) => !known.has(lifetime));
    kept.add({ value, nextSerial: runtime.serials.next, born }, this);
    return value;
  }

  alike(tasks: readonly TaskHandle[]): void {
    const numbers = tasks.map((task) => this.handles.indexOf(task));
    if (numbers.includes(-1)) throw new TypeError('alike tasks must be tasks of spawn');
    this.alikes.push(numbers);
    if (!this.oneOfAlike) return;
    for (let i = 1; i < numbers.length; i++) {
      this.follower.set(numbers[i - 1], numbers[i]);
      this.heldBack.add(numbers[i]);
    }
  }

  private letGo(task: number): void {
    const next = this.follower.get(task);
    if (next === undefined || !this.heldBack.delete(next)) return;
    this.released = next;
  }

  comparesBy(shared: () => readonly unknown[]): void {
    this.comparable = shared;
  }

  /** Whether any object with a lifetime was made. */
  get hasLifetimes(): boolean {
    return this.alive.size > 0;
  }

  isReady(task: number): boolean {
    const op = this.pending[task];
    return (op?.ready() ?? false) && (this.heldBack.size === 0 || !this.heldBack.has(task));
  }

  /** Whether the task waits for the first step of another that is alike. */
  isHeldBack(task: number): boolean {
    return this.heldBack.has(task);
  }

  /** Takes the pending step of a ready task, and runs it to its next one. */
  step(task: number): void {
    const op = this.pending[task]!;
    const handle = this.handles[task];
    this.running = task;
    this.spawned = -1;
    this.released = -1;
    if (this.follower.size > 0) this.letGo(task);
    this.seenBy = 0;
    this.steps += 1;
    runtime.current = handle;
    runtime.serials = this.serials[task];
    try {
      if (op.kind === OpKind.WAIT && op.object instanceof TaskHandle) this.joined.add(op.object);
      const failed = this.takeStep(op, handle);
      this.changedBy(op);
      this.touchLog?.step(task, op);
      this.went(task, failed ? handle.raise(this.error) : handle.resume(this.result));
      this.check();
    } catch (error) {
      this.pending[task] = null;
      handle.state = 'failed';
      handle.error = error;
      if (error instanceof InvariantError) this.fail(error);
    }
    this.running = -1;
  }

  /** Two unordered touches of a field or of an object that dies; null if there are none. */
  dataRace(): Finding | null {
    if (this.touchLog === null) return null;
    return this.touchLog.race(
      (task) => this.handles[task].label,
      (handle) => this.handles.indexOf(handle),
    );
  }

  /** Every lock that a task took or released, once each. */
  get locks(): Lock[] {
    if (this.lockSteps.length === 0) return [];
    return [...new Set(this.lockSteps)];
  }

  /** Tasks that have not ended. */
  unfinished(): number[] {
    return this.order.filter((task) => this.pending[task] !== null);
  }

  /**
   * Returns the finding of the program or the observer after the last step. The caller finds deadlocks, since it knows
   * the guards.
   */
  finish(): Finding | null {
    if (this.finding !== null) return this.finding;
    for (const task of this.order) {
      const handle = this.handles[task];
      if (handle.state === 'failed' && !this.joined.has(handle)) {
        this.finding = { invariant: 'error', message: `task ${handle.label} threw: ${messageOf(handle.error)}` };
        return this.finding;
      }
    }
    unobserved(() => {
      try {
        for (const check of this.endChecks) check();
      } catch (error) {
        this.fail(error);
      }
    });
    return this.finding;
  }

  /** Objects that were made and never ended, with the step after which each was made. */
  survivors(): readonly Birth[] {
    return [...this.alive.values()];
  }

  private start(task: number): void {
    const handle = this.handles[task];
    this.running = task;
    runtime.current = handle;
    runtime.serials = this.serials[task];
    try {
      this.went(task, handle.resume(undefined));
    } catch (error) {
      handle.state = 'failed';
      handle.error = error;
      if (error instanceof InvariantError) this.fail(error);
    }
    this.running = -1;
  }

  /** Takes a step. Returns whether it failed with an error that the task may handle. */
  private takeStep(op: Op, handle: TaskHandle): boolean {
    this.isAsking = op.kind === OpKind.EVALUATE;
    try {
      this.result = op.take(handle);
      return false;
    } catch (error) {
      if (error instanceof InvariantError) throw error;
      this.error = error;
      this.result = String(error);
      return true;
    } finally {
      this.isAsking = false;
    }
  }

  /** Finds out which invariants see a step that was taken, and which checks have to run again. */
  private changedBy(op: Op): void {
    if (isLockStep(op.kind)) this.lockSteps.push(op.object as Lock);
    if (accessTaken(op) === Access.READ) return;
    const { serial } = op.object;
    if (this.scopes !== null) this.seenBy |= this.scopes.maskOf(serial);
    this.stale |= this.watched.get(serial) ?? 0;
  }

  /** Records that a task has reached its next step, or its end. */
  private went(task: number, next: IteratorResult<Op, unknown>): void {
    const handle = this.handles[task];
    if (next.done === true) {
      this.pending[task] = null;
      handle.result = next.value;
      handle.state = 'finished';
    } else {
      this.pending[task] = next.value;
    }
  }

  private readonly part: CheckPart = (about, check) => {
    const { scope: outer, looks, lookCount } = this;
    this.scope = scopeOf(this.checking, about.serial);
    // Whether the part runs at all depends on what the check has looked at so far.
    for (let i = 0; i < lookCount; i++) this.scopes?.add(this.scope, looks[i]);
    try {
      check();
    } finally {
      this.scope = outer;
      this.lookCount = lookCount;
    }
  };

  private readonly glance: Glance = (look) => {
    this.isGlancing = true;
    try {
      return look();
    } finally {
      this.isGlancing = false;
    }
  };

  private look(serial: number): void {
    const bit = checkBit(this.checking);
    const checks = this.watched.get(serial) ?? 0;
    if ((checks & bit) === 0) this.watched.set(serial, checks | bit);
    if (this.checking < SHARED_BIT) this.stale &= ~bit;
    if (this.scopes === null || this.isGlancing) return;
    this.scopes.add(this.scope, serial);
    this.looks[this.lookCount++] = serial;
  }

  private check(): void {
    if (this.stepChecks.length === 0 || this.stale === 0) return;
    const { stale } = this;
    try {
      for (let i = 0; i < this.stepChecks.length; i++) {
        if ((stale & checkBit(i)) === 0) continue;
        this.checking = i;
        this.scope = scopeOf(i);
        this.lookCount = 0;
        this.stepChecks[i](this.part, this.glance);
      }
    } finally {
      this.checking = -1;
    }
  }

  private fail(error: unknown): void {
    if (this.finding !== null) return;
    if (!(error instanceof InvariantError)) this.finding = { invariant: 'error', message: messageOf(error) };
    else {
      const { invariant, message, subject } = error;
      this.finding = subject === null ? { invariant, message } : { invariant, message, subjects: [subject] };
    }
  }
}

/** Checks from this number on share a bit, and run after each step. */
const SHARED_BIT = 31;

/** The bit of a check in a set of checks. */
function checkBit(check: number): number {
  return 1 << Math.min(check, SHARED_BIT);
}

/** Whether a step operates on a lock, releases and trylocks included. */
export function isLockStep(kind: OpKind): boolean {
  return kind >= OpKind.LOCK && kind <= OpKind.TRY_READ_LOCK;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
}
