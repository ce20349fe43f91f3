/** Explains endless runs by the loop that they repeat, if there is one. */
import { Execution } from '../world/execution.ts';
import type { Finding } from '../world/finding.ts';
import type { Program } from '../world/program.ts';
import { TaskIds } from '../world/task-ids.ts';

/** An endless run, cut after its loop. */
export interface Endless {
  finding: Finding;
  schedule: number[];
}

/** One step of an endless run: its operation, its object, the state and the result. */
export interface LoopStep {
  task: string;
  what: string;
  state: string;
}

/**
 * Explains a run that took more steps than allowed: the shortest loop at its end, and the way into it. Without a loop
 * the schedule stays unchanged.
 */
export function explainEndless(program: Program, schedule: readonly number[]): Endless {
  const { steps, ready } = follow(program, schedule);
  const half = steps.length >> 1;
  const period = shortestPeriod(steps.slice(half).map(({ task, what, state }) => `${task}|${what}|${state}`));
  if (period === 0) {
    const message = `a run of more than ${schedule.length - 1} steps that repeats nothing: it does not come to an end`;
    return { finding: { invariant: 'I7', message }, schedule: [...schedule] };
  }
  let start = half;
  while (start > 0 && isSame(steps[start - 1], steps[start - 1 + period])) start -= 1;
  const cut = schedule.slice(0, start + 2 * period);
  return { finding: loopFinding(steps.slice(0, cut.length), period, ready), schedule: [...cut] };
}

/** How often a loop must repeat to count as endless. */
const REPEATS = 20;

/**
 * The finding of a run that `explainEndless` cut. Null if the run does not end in the same loop twice, or if the loop
 * ends when the run goes on. `ready` are the tasks that can go on.
 */
export function loopAtEnd(
  program: Program,
  schedule: readonly number[],
  steps: readonly LoopStep[],
  ready: readonly string[],
): Finding | null {
  for (let period = 1; 2 * period <= steps.length; period++) {
    const first = steps.length - 2 * period;
    const isTwice = steps.slice(first, first + period).every((step, i) => isSame(step, steps[first + period + i]));
    if (isTwice && goesOn(program, schedule, period)) return loopFinding(steps, period, ready);
  }
  return null;
}

/** Whether the last `period` steps of the schedule can be repeated, each with the same result. */
function goesOn(program: Program, schedule: readonly number[], period: number): boolean {
  const loop = schedule.slice(-period);
  const longer = [...schedule, ...Array.from({ length: REPEATS }, () => loop).flat()];
  const { steps } = follow(program, longer);
  if (steps.length < longer.length) return false;
  return steps.slice(schedule.length).every((step, i) => isSame(step, steps[schedule.length - period + (i % period)]));
}

function isSame(a: LoopStep, b: LoopStep): boolean {
  return a.task === b.task && a.what === b.what && a.state === b.state;
}

/** The steps of a schedule, and the labels of the tasks that can go on after it. */
function follow(program: Program, schedule: readonly number[]): { steps: LoopStep[]; ready: string[] } {
  const execution = new Execution(program, new TaskIds());
  const steps: LoopStep[] = [];
  for (const number of schedule) {
    const task = execution.order[number];
    if (execution.finding !== null || task === undefined || !execution.isReady(task)) break;
    const op = execution.pending[task]!;
    execution.step(task);
    steps.push({ task: execution.handles[task].label, what: `${op}`, state: op.object.describe() });
  }
  const ready = execution.order.filter((task) => execution.isReady(task));
  return { steps, ready: ready.map((task) => execution.handles[task].label) };
}

/** The length of the shortest piece that the list repeats at least three times at its end; 0 if there is none. */
function shortestPeriod(list: readonly string[]): number {
  const from = [...list].reverse();
  // border[i]: the longest proper prefix of from[0..i] that is also its suffix (Knuth, Morris, Pratt).
  const border = new Int32Array(from.length);
  for (let i = 1, k = 0; i < from.length; i++) {
    while (k > 0 && from[i] !== from[k]) k = border[k - 1];
    if (from[i] === from[k]) k += 1;
    border[i] = k;
  }
  const period = from.length - border[from.length - 1];
  return from.length > 0 && 3 * period <= from.length ? period : 0;
}

const MAX_SHOWN = 8;

function loopFinding(steps: readonly LoopStep[], period: number, ready: readonly string[]): Finding {
  const first = steps.length - period;
  const loop = steps.slice(first);
  const shown = loop.slice(0, MAX_SHOWN).map(({ task, what, state }) => `${task}: ${what}${state && `, now ${state}`}`);
  if (period > MAX_SHOWN) shown.push(`and ${period - MAX_SHOWN} more`);
  const idle = ready.filter((label) => !loop.some(({ task }) => task === label));
  const others = idle.length === 0 ? '' : `; ${idle.join(' and ')} could go on meanwhile, so write a wait, not a loop`;
  const count = period === 1 ? '1 step repeats' : `${period} steps repeat`;
  const message = `livelock: ${count} for ever: ${shown.join('; ')}${others}`;
  return { invariant: 'I7', message, steps: Array.from({ length: period }, (_, i) => first + i) };
}
