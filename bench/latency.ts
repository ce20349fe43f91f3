/** Times that may not be longer than so many ms. */

import { median } from '../src/demo/median.ts';
import type { BenchResult } from './result.ts';

const ROUNDS = 5;

export function latency(name: string, times: readonly number[], mostMs: number): BenchResult {
  const value = median(times);
  return { name, value, unit: 'ms', reference: mostMs, ratio: mostMs / value, longestMs: Math.max(...times) };
}

/** Whatever else the machine does only adds: of several rounds of `runs` the quietest counts, in its median. */
export async function quietestLatency(
  name: string,
  runs: number,
  mostMs: number,
  measureMs: () => Promise<number>,
): Promise<BenchResult> {
  const rounds: number[][] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const times: number[] = [];
    for (let run = 0; run < runs; run++) times.push(await measureMs());
    rounds.push(times);
  }
  const quietest = Math.min(...rounds.map(median));
  const all = rounds.flat();
  return { ...latency(name, all, mostMs), value: quietest, ratio: mostMs / quietest, allMs: median(all) };
}
