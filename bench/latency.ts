/** Latencies against the most milliseconds that they may take. */

import { median } from '../src/demo/median.ts';
import type { BenchResult } from './result.ts';

const ROUNDS = 5;

export function latency(name: string, times: readonly number[], mostMs: number): BenchResult {
  const value = median(times);
  return { name, value, unit: 'ms', reference: mostMs, ratio: mostMs / value, longestMs: Math.max(...times) };
}

/** Runs several rounds of `runs`. The round with the least median counts, since other load only adds time. */
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
