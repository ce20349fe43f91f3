/**
 * The oracle for the searches: takes every order of a program's steps, one after the other, and shares no code with the
 * searches. Orders that differ only in commuting steps have the same form. It implements that rule a second time, from
 * docs/exploring-your-own-code.md.
 */
import { Execution } from '../../src/explore/world/execution.ts';
import type { Program } from '../../src/explore/world/program.ts';
import { TaskIds } from '../../src/explore/world/task-ids.ts';
import { type Op, OpKind } from '../../src/task/op.ts';
import { TaskHandle } from '../../src/task/task-handle.ts';

/** A program that reports its actions to the oracle. The calls are about the latest execution. */
export interface ObservableProgram extends Program {
  /** The values that each task saw, the final values, and the tasks that still wait. */
  outcome(execution: Execution): string;
  /** Returns and forgets the labels of the objects that the last step changed besides its own. */
  takeChanged(): readonly string[];
  /** For each invariant: the labels of the objects that it has looked at in any execution so far. */
  readonly looked: readonly ReadonlySet<string>[];
  /** The values that the invariants have seen in this execution, one entry for each look. */
  seen(): readonly string[];
}

/** The result of one order. */
export interface OrderSeen {
  /** Equal for two orders that differ only in commuting steps. */
  form: string;
  outcome: string;
  looks: readonly string[];
  /** How often the order left a task that could have gone on. */
  preemptions: number;
  /** The broken invariant and its message, or an empty string. */
  finding: string;
  length: number;
}

interface Step {
  task: number;
  /** Its index among its task's steps. */
  nth: number;
  object: number;
  isRead: boolean;
  isShared: boolean;
  /** Whether it evaluates a condition over anything. */
  isEvaluation: boolean;
  /** The invariants that look at something that it changed. */
  invariants: ReadonlySet<number>;
  /** The task that it started or joined. */
  peer: number;
  text: string;
}

const SHARED_KINDS: readonly OpKind[] = [OpKind.READ_LOCK, OpKind.READ_UNLOCK, OpKind.TRY_READ_LOCK];

/** Takes one order. `choose` returns the ready task that goes next, or -1 to stop. */
export function takeOrder(
  program: ObservableProgram,
  choose: (ready: readonly number[], depth: number) => number,
): OrderSeen {
  const execution = new Execution(program, new TaskIds());
  const steps: Step[] = [];
  const counts: number[] = [];
  let preemptions = 0;
  let last = -1;
  while (execution.finding === null) {
    const ready = execution.order.filter((task) => execution.isReady(task));
    if (ready.length === 0) break;
    const task = choose(ready, steps.length);
    if (task < 0) break;
    if (last >= 0 && task !== last && ready.includes(last)) preemptions += 1;
    last = task;
    const op = execution.pending[task]!;
    execution.step(task);
    counts[task] = (counts[task] ?? 0) + 1;
    steps.push(stepOf(program, execution, op, task, counts[task]));
  }
  const finding = execution.finding ?? endOf(execution);
  return {
    form: formOf(steps),
    outcome: program.outcome(execution),
    looks: program.seen(),
    preemptions,
    finding: finding === null ? '' : `${finding.invariant}: ${finding.message}`,
    length: steps.length,
  };
}

function endOf(execution: Execution): { invariant: string; message: string } | null {
  return execution.unfinished().length > 0 ? { invariant: 'I4', message: 'stuck' } : execution.finish();
}

function stepOf(program: ObservableProgram, execution: Execution, op: Op, task: number, nth: number): Step {
  const isRead = op.kind === OpKind.READ || op.kind === OpKind.WAIT || !op.changed;
  const changed = [...program.takeChanged(), ...(isRead ? [] : [op.object.label])];
  const looking = program.looked.flatMap((labels, i) => (changed.some((one) => labels.has(one)) ? [i] : []));
  const peer = op.object instanceof TaskHandle ? execution.handles.indexOf(op.object) : execution.spawned;
  return {
    task,
    nth,
    object: op.object.serial,
    isRead,
    isEvaluation: op.kind === OpKind.EVALUATE,
    isShared: !isRead && SHARED_KINDS.includes(op.kind),
    invariants: new Set(looking),
    peer,
    text: `${op}${op.changed ? '' : '!'}`,
  };
}

/** Whether two steps of different tasks must keep their order. */
function mustKeep(a: Step, b: Step): boolean {
  if (a.peer === b.task || b.peer === a.task || a.isEvaluation || b.isEvaluation) return true;
  for (const invariant of a.invariants) if (b.invariants.has(invariant)) return true;
  if (a.object !== b.object) return false;
  return !(a.isRead && b.isRead) && !(a.isShared && b.isShared);
}

/** For each step of each task: how many steps of the other tasks must precede it. */
function formOf(steps: readonly Step[]): string {
  const clocks: number[][] = [];
  for (const [at, step] of steps.entries()) {
    const clock: number[] = [];
    for (let i = 0; i < at; i++) {
      const other = steps[i];
      if (other.task !== step.task && !mustKeep(other, step)) continue;
      for (const [task, nth] of clocks[i].entries()) clock[task] = Math.max(clock[task] ?? 0, nth ?? 0);
    }
    clock[step.task] = step.nth;
    clocks.push(clock);
  }
  return steps
    .map((step, at) => `${step.task}.${step.nth} ${step.text} ${Array.from(clocks[at], (nth) => nth ?? 0)}`)
    .sort()
    .join('; ');
}

type EveryOrder = { forms: Set<string>; outcomes: Set<string>; looks: Set<string>; orders: number };

/**
 * Takes all orders; returns their results by form, or null if there are more than `most`. Two rounds: the first one
 * shows the objects that the invariants look at.
 */
export function everyOrder(
  program: ObservableProgram,
  most: number,
  look: (seen: OrderSeen) => void = () => {},
): EveryOrder | null {
  if (program.looked.length > 0 && round(program, most, () => {}) === null) return null;
  return round(program, most, look);
}

function round(program: ObservableProgram, most: number, look: (seen: OrderSeen) => void): EveryOrder | null {
  const found = { forms: new Set<string>(), outcomes: new Set<string>(), looks: new Set<string>(), orders: 0 };
  const path: number[][] = [];
  for (;;) {
    const seen = takeOrder(program, (ready, depth) => {
      if (depth === path.length) path.push([...ready]);
      return path[depth][0];
    });
    look(seen);
    found.orders += 1;
    found.forms.add(seen.form);
    found.outcomes.add(seen.outcome);
    for (const one of seen.looks) found.looks.add(one);
    while (path.length > 0 && path[path.length - 1].length === 1) path.pop();
    if (path.length === 0) return found;
    path[path.length - 1].shift();
    if (found.orders >= most) return null;
  }
}
