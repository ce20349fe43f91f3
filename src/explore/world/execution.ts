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
import type { CheckPart, Program, Stage } from './program.ts';
import { SERIALS_PER_TASK, type TaskIds } from './task-ids.ts';

interface Birth {
  lifetime: Lifetime;
  bornAt: number;
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
  private readonly scopes: InvariantScopes | null;
  private readonly lockSteps: Lock[] = [];
  private readonly checks: boolean;
  private readonly ids: TaskIds;
  private readonly children: number[] = [];
  private readonly serials: { next: number }[] = [];
  /** Whether the last step may have changed something that a check can look at. No check sees the state of a lock. */
  private hasChanged = true;
  /** The checks that have looked at an object. Others may look at anything. */
  private readonly looking: boolean[] = [];
  private readonly endChecks: (() => void)[] = [];
  private readonly stepChecks: ((part: CheckPart) => void)[] = [];
  private readonly alive = new Map<Lifetime, Birth>();
  private readonly joined = new Set<TaskHandle>();
  private running = -1;
  private roots = 0;

  /** `checks` says whether the checks after each step are made. */
  constructor(
    program: Program,
    ids: TaskIds,
    history: History | null = null,
    scopes: InvariantScopes | null = null,
    checks = true,
  ) {
    this.ids = ids;
    this.checks = checks;
    this.history = history;
    this.scopes = scopes;
    runtime.observed = true;
    runtime.current = null;
    runtime.observer = this;
    runtime.serials = { next: 0 };
    try {
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
    if (isChange) this.hasChanged = true;
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

  afterEach(check: (part: CheckPart) => void): void {
    if (this.checks) this.stepChecks.push(check);
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
    return op?.ready() ?? false;
  }

  /** Takes the pending step of a ready task, and runs it to its next one. */
  step(task: number): void {
    const op = this.pending[task]!;
    const handle = this.handles[task];
    this.running = task;
    this.spawned = -1;
    this.seenBy = 0;
    this.hasChanged = false;
    this.steps += 1;
    runtime.current = handle;
    runtime.serials = this.serials[task];
    try {
      if (op.kind === OpKind.WAIT && op.object instanceof TaskHandle) this.joined.add(op.object);
      const next = this.takeStep(op, handle);
      if (isLockStep(op.kind)) this.lockSteps.push(op.object as Lock);
      else if (accessTaken(op) !== Access.READ) this.hasChanged = true;
      if (this.scopes !== null && accessTaken(op) !== Access.READ) this.seenBy |= this.scopes.maskOf(op.object.serial);
      this.touchLog?.step(task, op);
      this.went(task, next());
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

  /** Takes a step; returns how its task goes on, with the result or with an error that the task may handle. */
  private takeStep(op: Op, handle: TaskHandle): () => IteratorResult<Op, unknown> {
    this.isAsking = op.kind === OpKind.EVALUATE;
    try {
      const result = op.take(handle);
      this.result = result;
      return () => handle.resume(result);
    } catch (error) {
      if (error instanceof InvariantError) throw error;
      this.result = String(error);
      return () => handle.raise(error);
    } finally {
      this.isAsking = false;
    }
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
    const { scope: outer, looks } = this;
    const { length } = looks;
    this.scope = scopeOf(this.checking, about.serial);
    // Whether the part runs at all depends on what the check has looked at so far.
    for (const serial of looks) this.scopes?.add(this.scope, serial);
    try {
      check();
    } finally {
      this.scope = outer;
      looks.length = length;
    }
  };

  private look(serial: number): void {
    this.looking[this.checking] = true;
    if (this.scopes === null) return;
    this.scopes.add(this.scope, serial);
    this.looks.push(serial);
  }

  private check(): void {
    if (this.stepChecks.length === 0) return;
    try {
      for (let i = 0; i < this.stepChecks.length; i++) {
        if (!this.hasChanged && this.looking[i]) continue;
        this.checking = i;
        this.scope = scopeOf(i);
        this.looks.length = 0;
        this.stepChecks[i](this.part);
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

/** Whether a step operates on a lock, releases and trylocks included. */
export function isLockStep(kind: OpKind): boolean {
  return kind >= OpKind.LOCK && kind <= OpKind.TRY_READ_LOCK;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
}
