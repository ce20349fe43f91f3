/** How fast the explorer is, against what the best tool in C took for the same programs on a two-core machine. */
import type { BenchResult } from '../src/cli/bench.ts';
import { DporSearch } from '../src/explore/dpor.ts';
import { findProgram } from '../src/explore/programs.ts';

function measure(scenario: string): { seconds: number; steps: number; executions: number } {
  const search = new DporSearch(findProgram(scenario), true);
  const start = performance.now();
  while (search.advance(1000) === 'more') {}
  const seconds = (performance.now() - start) / 1000;
  if (!search.complete || search.totals.blocked > 0) throw new Error(`${scenario} was not explored completely`);
  return { seconds, steps: search.totals.steps, executions: search.totals.executions };
}

const BARS = [
  { scenario: 'lastzero:10', seconds: 0.66 },
  { scenario: 'readers:13', seconds: 2.3 },
  { scenario: 'revoke:4', seconds: 3.6 },
];

/** Seconds for whole searches, and steps each second of the largest of them. */
export function benchExplore(): BenchResult[] {
  const results: BenchResult[] = [];
  for (const { scenario, seconds } of BARS) {
    const value = measure(scenario).seconds;
    results.push({ name: scenario, value, unit: 's', reference: seconds, ratio: seconds / value });
  }
  const { steps, seconds } = measure('lastzero:12');
  const rate = steps / seconds;
  results.push({ name: 'steps', value: rate, unit: 'steps/s', reference: 1e6, ratio: rate / 1e6 });
  return results;
}
