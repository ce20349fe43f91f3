/** One schedule, run again: for replay files, minimising, and everything that is drawn. */
import { createHash } from 'node:crypto';
import { Lock } from '../task/lock.ts';
import { OP_KIND_NAMES, OpKind, runtime } from '../task/op.ts';
import { checkEnd } from './oracles.ts';
import type { Program } from './program.ts';
import { Trace } from './trace.ts';
import { type Finding, TaskIds, World } from './world.ts';

/** One step as people look at it. */
export interface ShownStep {
  index: number;
  task: string;
  op: string;
  object: string;
  /** The object's state after the step, in a word or two. */
  state: string;
  /** `file:line` of the code that took the step, where it is known. */
  source: string;
  /** Earlier steps of other tasks that this one can only come after, without those that follow from others. */
  after: number[];
  /** -1 released, 1 acquired, 0 neither. */
  lock: -1 | 0 | 1;
  waits: boolean;
}

/** A task that can go no further at the end. */
export interface ShownBlock {
  task: string;
  op: string;
  object: string;
  state: string;
}

export interface ShownRun {
  program: string;
  tasks: string[];
  steps: ShownStep[];
  blocked: ShownBlock[];
  finding: Finding | null;
  preemptions: number;
  hash: string;
}

/** How often a schedule leaves a task that could have gone on. */
export function countPreemptions(program: Program, schedule: readonly number[]): number {
  const world = new World(program, new TaskIds());
  let preemptions = 0;
  let last = -1;
  for (const task of schedule) {
    if (last >= 0 && last !== task && world.isReady(last)) preemptions += 1;
    if (!world.isReady(task)) break;
    world.step(task);
    last = task;
  }
  return preemptions;
}

/** Runs the schedule as far as it can be followed and writes down each step. */
export function show(program: Program, schedule: readonly number[]): ShownRun {
  const sources = new SourceLines();
  runtime.tracer = sources.note;
  try {
    return showWith(program, schedule, sources);
  } finally {
    runtime.tracer = null;
  }
}

function showWith(program: Program, schedule: readonly number[], sources: SourceLines): ShownRun {
  const world = new World(program, new TaskIds());
  const trace = new Trace();
  const steps: ShownStep[] = [];
  let preemptions = 0;
  let last = -1;
  for (const task of schedule) {
    if (world.finding !== null || !world.isReady(task)) break;
    if (last >= 0 && last !== task && world.isReady(last)) preemptions += 1;
    last = task;
    for (const known of world.order) if (known >= trace.width) trace.width = known + 1;
    const op = world.pending[task]!;
    const source = sources.of(world.handles[task]);
    trace.take(world, task);
    const index = trace.length - 1;
    steps.push({
      index,
      task: world.handles[task].label,
      op: OP_KIND_NAMES[op.kind] + (op.changed ? '' : ' (failed)'),
      object: op.object.label,
      state: op.object.describe(),
      source,
      after: directlyAfter(trace, index),
      lock: op.object instanceof Lock && op.changed ? (isRelease(op.kind) ? -1 : 1) : 0,
      waits: op.kind === OpKind.WAIT,
    });
  }
  const blocked = world.unfinished().map((task) => blockOf(world, task));
  const ready = world.unfinished().some((task) => world.isReady(task));
  const finding = ready ? world.finding : checkEnd(world);
  const tasks = [...new Set(world.order.map((task) => world.handles[task].label))];
  const shown = { program: program.name, tasks, steps, blocked, finding, preemptions };
  return { ...shown, hash: hashOf(program.name, steps, finding) };
}

function isRelease(kind: number): boolean {
  return kind === OpKind.UNLOCK || kind === OpKind.READ_UNLOCK;
}

function blockOf(world: World, task: number): ShownBlock {
  const op = world.pending[task]!;
  return {
    task: world.handles[task].label,
    op: OP_KIND_NAMES[op.kind],
    object: op.object.label,
    state: op.object.describe(),
  };
}

/** The steps of other tasks that come before and have nothing between. */
function directlyAfter(trace: Trace, index: number): number[] {
  const direct: number[] = [];
  for (let i = index - 1; i >= 0; i--) {
    if (trace.task[i] === trace.task[index] || !trace.happensBefore(i, index)) continue;
    if (direct.some((other) => trace.happensBefore(i, other))) continue;
    const own = trace.ownPrevious(index);
    if (own >= 0 && trace.happensBefore(i, own)) continue;
    direct.push(i);
  }
  return direct;
}

/** What a replay file keeps of a run: the same steps with the same outcome have the same hash. */
function hashOf(name: string, steps: readonly ShownStep[], finding: Finding | null): string {
  const hash = createHash('sha256').update(name);
  for (const { task, op, object, state } of steps) hash.update(`\n${task}|${op}|${object}|${state}`);
  hash.update(`\n${finding === null ? 'ok' : `${finding.invariant}: ${finding.message}`}`);
  return hash.digest('hex');
}

/** Notes for each task the line at which it came to its pending step. */
class SourceLines {
  private readonly lines = new Map<object, string>();

  readonly note = (op: object): void => {
    const limit = Error.stackTraceLimit;
    Error.stackTraceLimit = 20;
    const frames = (new Error().stack ?? '').split('\n').slice(1);
    Error.stackTraceLimit = limit;
    for (const frame of frames) {
      const match = /((?:src|test|examples)\/[\w./-]+\.ts):(\d+)/.exec(frame);
      if (match === null || match[1].startsWith('src/task/') || match[1].startsWith('src/explore/schedule')) continue;
      this.lines.set(runtime.current ?? op, `${match[1]}:${match[2]}`);
      return;
    }
  };

  of(handle: object): string {
    return this.lines.get(handle) ?? '';
  }
}
