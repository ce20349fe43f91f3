/** Runs one schedule again, for replay files, minimising, and all drawings. */

import { createHash } from 'node:crypto';
import { Lock } from '../../task/lock.ts';
import { OP_KIND_NAMES, type Op, OpKind } from '../../task/op.ts';
import { Refcount } from '../../task/refcount.ts';
import { runtime } from '../../task/runtime.ts';
import type { Shared } from '../../task/shared.ts';
import { areAllQueued } from '../checks/fair-queues.ts';
import { type LoopStep, loopAtEnd } from '../checks/livelock.ts';
import { HeldLocks, LockOrder } from '../checks/lock-order.ts';
import { checkEnd } from '../checks/oracles.ts';
import { Execution } from './execution.ts';
import type { Finding, History } from './finding.ts';
import type { Program } from './program.ts';
import { callerStack, lineOf } from './stacks.ts';
import { StepLog } from './step-log.ts';
import { TaskIds } from './task-ids.ts';

/** One step in the form shown to people. */
export interface ShownStep {
  /** The place of the step in the run, from 0. */
  index: number;
  /** The label of the task that took it. */
  task: string;
  /** The kind of operation, such as `lock`. */
  op: string;
  /** The label of the object that it touched. */
  object: string;
  /** Distinguishes objects with the same name; the same in every run. */
  objectId: number;
  /** The object's state before and after the step, in a word or two. */
  before: string;
  /** The state of the object after the step. */
  state: string;
  /** `file:line` of the code that took the step, if known. */
  source: string;
  /** `function file:line`, innermost first. */
  stack: string[];
  /** The task's activity, if its author named it. */
  activity: string;
  /** Earlier steps of other tasks that this one must follow, without those implied by others. */
  after: number[];
  /** -1 released, 1 acquired, 0 neither. */
  lock: -1 | 0 | 1;
  /** Whether the lock is, or was, held for reading. */
  isShared: boolean;
  /** Whether the step is a wait, for a completion or on a queue. */
  waits: boolean;
  /** Whether the step before belonged to another task that could have gone on. */
  preempts: boolean;
}

/** A task that is stuck at the end. */
export interface ShownBlock {
  /** The label of the stuck task. */
  task: string;
  /** The operation that it waits to take. */
  op: string;
  /** The label of the object of that operation. */
  object: string;
  /** The state of that object. */
  state: string;
  /** `file:line` of the wait, if known. */
  source: string;
  /** `function file:line`, innermost first. */
  stack: string[];
}

/** An event in the life of an object. */
export interface ShownEvent {
  /** The step at which it happened; -1 before the first one. */
  step: number;
  /** The label of the task that did it. */
  task: string;
  /** What the task did, in a few words. */
  what: string;
  /** `function file:line`, innermost first. */
  stack: string[];
}

/** Which tasks made and ended, or took and dropped, an object of the finding. */
export interface ShownHistory {
  /** The label of the object. */
  label: string;
  /** What happened to it, in order. */
  events: ShownEvent[];
}

/** One run of a program, step by step, for timelines. */
export interface ShownRun {
  /** The name of the program. */
  program: string;
  /** Tasks that took a step, or are stuck before their first, in the order of their start. */
  tasks: string[];
  /** The other tasks. */
  idle: string[];
  /** Every step in its order. */
  steps: ShownStep[];
  /** Tasks that are stuck at the end. */
  blocked: ShownBlock[];
  /** The broken rule; null for a good run. */
  finding: Finding | null;
  /** The steps at which the invariant broke; empty if none broke, or if it is about the end. */
  failsAt: number[];
  /** The lives of the objects that the finding is about. */
  histories: ShownHistory[];
  /** How often the schedule leaves a task that could have gone on. */
  preemptions: number;
  /** A checksum of all steps and the outcome. Equal runs have equal hashes. */
  hash: string;
}

/** How often a schedule leaves a task that could have gone on. */
export function countPreemptions(program: Program, schedule: readonly number[]): number {
  const execution = new Execution(program, new TaskIds());
  let preemptions = 0;
  let last = -1;
  for (const task of schedule) {
    if (last >= 0 && last !== task && execution.isReady(last)) preemptions += 1;
    if (!execution.isReady(task)) break;
    execution.step(task);
    last = task;
  }
  return preemptions;
}

/**
 * Runs the schedule as far as it can be followed, and records each step. A stack costs a millisecond; the run and its
 * hash are the same without stacks.
 */
export function show(program: Program, schedule: readonly number[], { stacks = true } = {}): ShownRun {
  const notes = new Notes();
  runtime.tracer = stacks ? notes.tracer : null;
  try {
    return new Show(program, notes).run(schedule);
  } finally {
    runtime.tracer = null;
  }
}

class Show {
  private readonly program: Program;
  private readonly notes: Notes;
  private readonly execution: Execution;
  private readonly log = new StepLog();
  private readonly held = new HeldLocks();
  private readonly lockOrder = new LockOrder();
  private readonly steps: ShownStep[] = [];
  private readonly loopSteps: LoopStep[] = [];

  constructor(program: Program, notes: Notes) {
    this.program = program;
    this.notes = notes;
    this.execution = new Execution(program, new TaskIds(), { history: notes });
  }

  run(schedule: readonly number[]): ShownRun {
    const { execution, steps } = this;
    for (const task of schedule) {
      if (execution.finding !== null || !execution.isReady(task)) break;
      steps.push(this.take(task));
    }
    const blocked = execution.unfinished().map((task) => this.blockOf(task));
    const ready = execution.unfinished().filter((task) => execution.isReady(task));
    const isReady = ready.length > 0 && !areAllQueued(execution, ready);
    const broke = execution.finding !== null;
    const finding = isReady
      ? (execution.finding ?? this.loop(schedule, ready))
      : (checkEnd(execution) ?? this.lockCycle());
    const labels = [...new Set(execution.order.map((task) => execution.handles[task].label))];
    const isStuck = finding !== null && !isReady && !broke;
    const busy = new Set([...steps.map((step) => step.task), ...(isStuck ? blocked.map((block) => block.task) : [])]);
    const failsAt = broke ? [steps.length - 1] : [...(finding?.steps ?? [])];
    return {
      program: this.program.name,
      tasks: labels.filter((label) => busy.has(label)),
      idle: labels.filter((label) => !busy.has(label)),
      steps,
      blocked: isStuck ? blocked : [],
      finding,
      failsAt,
      histories: this.notes.about(finding?.subjects ?? [], (id) => execution.handles[id]?.label ?? ''),
      preemptions: steps.filter((step) => step.preempts).length,
      hash: hashOf(this.program.name, steps, finding),
    };
  }

  private take(task: number): ShownStep {
    const { execution, log, notes } = this;
    const last = log.length === 0 ? -1 : log.task[log.length - 1];
    const preempts = last >= 0 && last !== task && execution.isReady(last);
    for (const known of execution.order) if (known >= log.width) log.width = known + 1;
    const op = execution.pending[task]!;
    const handle = execution.handles[task];
    const stack = notes.stackOf(handle);
    const activity = handle.activity();
    const before = op.object.describe();
    this.lockOrder.before(this.held, task, handle.label, op);
    notes.step = log.length;
    notes.task = task;
    log.take(execution, task);
    this.lockOrder.after(this.held, task, op);
    this.loopSteps.push({ task: handle.label, what: `${op}`, state: op.object.describe() });
    if (op.object instanceof Refcount) notes.counted(op.object, `${before} to ${op.object.describe()}`, stack);
    const index = log.length - 1;
    return {
      index,
      task: handle.label,
      op: OP_KIND_NAMES[op.kind] + (op.changed ? '' : ' (failed)'),
      object: op.object.label,
      objectId: log.object[index],
      before,
      state: op.object.describe(),
      source: lineOf(stack),
      stack,
      activity,
      after: directlyAfter(log, index),
      lock: op.object instanceof Lock && op.changed ? (isRelease(op.kind) ? -1 : 1) : 0,
      isShared: op.kind === OpKind.READ_LOCK || op.kind === OpKind.TRY_READ_LOCK || op.kind === OpKind.READ_UNLOCK,
      waits: op.kind === OpKind.WAIT,
      preempts,
    };
  }

  private blockOf(task: number): ShownBlock {
    const op: Op = this.execution.pending[task]!;
    const handle = this.execution.handles[task];
    const stack = this.notes.stackOf(handle);
    return {
      task: handle.label,
      op: OP_KIND_NAMES[op.kind],
      object: op.object.label,
      state: op.object.describe(),
      source: lineOf(stack),
      stack,
    };
  }

  /** A schedule that ends in the same steps twice, with tasks that can go on, was cut from an endless run. */
  private loop(schedule: readonly number[], ready: readonly number[]): Finding | null {
    if (this.loopSteps.length < schedule.length) return null;
    return loopAtEnd(
      this.program,
      schedule,
      this.loopSteps,
      ready.map((task) => this.execution.handles[task].label),
    );
  }

  private lockCycle(): Finding | null {
    const message = this.lockOrder.cycle();
    return message === null ? null : { invariant: 'I4', message };
  }
}

function isRelease(kind: number): boolean {
  return kind === OpKind.UNLOCK || kind === OpKind.READ_UNLOCK;
}

/** The latest steps of other tasks that come before, without those implied by others. */
function directlyAfter(log: StepLog, index: number): number[] {
  const direct: number[] = [];
  for (let i = index - 1; i >= 0; i--) {
    if (log.task[i] === log.task[index] || !log.happensBefore(i, index)) continue;
    if (direct.some((other) => log.happensBefore(i, other))) continue;
    const own = log.ownPrevious(index);
    if (own >= 0 && log.happensBefore(i, own)) continue;
    direct.push(i);
  }
  return direct;
}

/** The hash in a replay file. Equal steps with an equal outcome have equal hashes, even if source lines move. */
function hashOf(name: string, steps: readonly ShownStep[], finding: Finding | null): string {
  const hash = createHash('sha256').update(name);
  for (const { task, op, object, state } of steps) hash.update(`\n${task}|${op}|${object}|${state}`);
  hash.update(
    `\n${finding === null ? 'ok' : `${finding.invariant}: ${finding.message.replace(/ \([\w./-]+:\d+\)/g, '')}`}`,
  );
  return hash.digest('hex');
}

/** Records the stack at which each task reached its pending step, and which tasks made and ended each object. */
class Notes implements History {
  /** The step that is being taken, and its task; -1 while the program is built. */
  step = -1;
  task = -1;
  private readonly stacks = new Map<object, string[]>();
  private readonly events: { subject: object; step: number; task: number; what: string; stack: string[] }[] = [];

  readonly tracer = (op: object): void => {
    this.stacks.set(runtime.current ?? op, callerStack());
  };

  stackOf(handle: object): string[] {
    return this.stacks.get(handle) ?? [];
  }

  note(subject: object, what: string): void {
    const stack = runtime.tracer === null ? [] : callerStack();
    this.events.push({ subject, step: this.step, task: this.task, what, stack });
  }

  counted(count: Refcount, what: string, stack: string[]): void {
    this.events.push({ subject: count, step: this.step, task: this.task, what, stack });
  }

  /** The histories of the subjects, and of their reference counts. */
  about(subjects: readonly object[], label: (task: number) => string): ShownHistory[] {
    const counts = this.events
      .map((event) => event.subject)
      .filter((subject) => subjects.includes((subject as Shared).lifetime as object));
    return [...new Set([...subjects, ...counts])].map((subject) => ({
      label: (subject as { label: string }).label,
      events: this.events
        .filter((event) => event.subject === subject)
        .map(({ step, task, what, stack }) => ({ step, task: label(task), what, stack })),
    }));
  }
}
