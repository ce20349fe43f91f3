/**
 * Counts the orders of a run's steps that differ only in commuting steps. Steps of a task form a chain, so a set of
 * steps that can come first is a number for each task.
 */
import type { StepLog } from '../world/step-log.ts';
import { Random } from './random.ts';

/** With more sets of steps than this, the count is an estimate itself. */
const MAX_SETS = 20_000;
const SAMPLES = 300;

/** The steps of one task: for each, how many steps of each chain it must follow. */
type StepChain = readonly (readonly number[])[];

/** The logarithm of the number of orders of these steps, which are given by their index in the log. */
export function logExtensions(log: StepLog, steps: readonly number[]): number {
  const chains = chainsOf(log, steps);
  let result = logFactorial(steps.length);
  for (const part of connected(chains)) {
    const length = part.reduce((sum, chain) => sum + chain.length, 0);
    result += (part.length === 1 ? 0 : logOfPart(part)) - logFactorial(length);
  }
  return result;
}

function chainsOf(log: StepLog, steps: readonly number[]): number[][][] {
  const tasks = [...new Set(steps.map((step) => log.task[step]))];
  const own = tasks.map((task) => steps.filter((step) => log.task[step] === task));
  return own.map((chain) =>
    chain.map((step) => own.map((other) => countUntil(other, (earlier) => log.happensBefore(earlier, step)))),
  );
}

/** How many of the first entries hold. A step that holds follows all before it in its chain. */
function countUntil(steps: readonly number[], holds: (step: number) => boolean): number {
  let count = 0;
  while (count < steps.length && holds(steps[count])) count += 1;
  return count;
}

/** Chains without an order between them multiply, so each set of connected ones is counted by itself. */
function connected(chains: readonly StepChain[]): StepChain[][] {
  const group = chains.map((_, i) => i);
  const rootOf = (i: number): number => (group[i] === i ? i : rootOf(group[i]));
  for (const [i, chain] of chains.entries()) {
    for (const needs of chain) for (const [j, count] of needs.entries()) if (count > 0) group[rootOf(i)] = rootOf(j);
  }
  const members = new Map<number, number[]>();
  for (const i of chains.keys()) members.set(rootOf(i), [...(members.get(rootOf(i)) ?? []), i]);
  return [...members.values()].map((part) => part.map((i) => chains[i].map((needs) => part.map((j) => needs[j]))));
}

function logOfPart(chains: readonly StepChain[]): number {
  return exactly(chains) ?? bySamples(chains);
}

/** Whether the next step of a chain can come after these steps. */
function canCome(chains: readonly StepChain[], done: readonly number[], i: number): boolean {
  const needs = chains[i][done[i]];
  return needs?.every((count, j) => j === i || done[j] >= count) === true;
}

/** Counts set by set, by their size; null if there are too many. */
function exactly(chains: readonly StepChain[]): number | null {
  const total = chains.reduce((sum, chain) => sum + chain.length, 0);
  let level = new Map<string, { done: number[]; ways: number }>();
  const start = chains.map(() => 0);
  level.set(start.join(), { done: start, ways: 1 });
  let scale = 0;
  let sets = 0;
  for (let size = 0; size < total; size++) {
    const next = new Map<string, { done: number[]; ways: number }>();
    for (const { done, ways } of level.values()) {
      for (const i of chains.keys()) {
        if (!canCome(chains, done, i)) continue;
        const more = done.with(i, done[i] + 1);
        const key = more.join();
        const known = next.get(key);
        if (known === undefined) next.set(key, { done: more, ways });
        else known.ways += ways;
      }
    }
    sets += next.size;
    if (sets > MAX_SETS) return null;
    // Numbers of ways may leave the range of a double.
    let most = 0;
    for (const { ways } of next.values()) most = Math.max(most, ways);
    for (const entry of next.values()) entry.ways /= most;
    scale += Math.log(most);
    level = next;
  }
  return scale + Math.log([...level.values()][0].ways);
}

/** Draws orders with chances in proportion to the steps left, and takes the average of their inverse probability. */
function bySamples(chains: readonly StepChain[]): number {
  const random = new Random(7);
  const logs = Array.from({ length: SAMPLES }, () => {
    const done = chains.map(() => 0);
    let logWeight = 0;
    for (;;) {
      const able = [...chains.keys()].filter((i) => canCome(chains, done, i));
      if (able.length === 0) return logWeight;
      const left = able.map((i) => chains[i].length - done[i]);
      const all = left.reduce((sum, count) => sum + count, 0);
      let at = random.fraction() * all;
      const chosen = left.findIndex((count) => {
        at -= count;
        return at < 0;
      });
      logWeight += Math.log(all / left[chosen]);
      done[able[chosen]] += 1;
    }
  });
  const most = Math.max(...logs);
  return most + Math.log(logs.reduce((sum, one) => sum + Math.exp(one - most), 0) / SAMPLES);
}

const factorials = [0, 0];

function logFactorial(n: number): number {
  for (let i = factorials.length; i <= n; i++) factorials.push(factorials[i - 1] + Math.log(i));
  return factorials[n];
}
