/** How fast the explorer is, against what the best tools in C took for the same programs on a two-core machine. */

import type { ExploreOptions, ExploreResult } from '../src/explore/explore.ts';
import { explore } from '../src/verify/explore.ts';
import type { BenchResult } from './result.ts';

/** A whole search; an error where it does not come to its end without a blocked run. */
async function whole(options: ExploreOptions): Promise<ExploreResult> {
  const result = await explore(options);
  const isWhole = result.complete && (result.blocked === 0 || result.states !== null);
  if (!isWhole) throw new Error(`${options.scenario} was not explored completely`);
  return result;
}

/** The fastest of three: what else the machine does makes a short search no faster. */
async function fastest(scenario: string): Promise<ExploreResult> {
  const runs = [await whole({ scenario }), await whole({ scenario }), await whole({ scenario })];
  return runs.reduce((best, run) => (run.seconds < best.seconds ? run : best));
}

/** Nidhugg 0.4, -sc -optimal. */
const BARS = [
  { scenario: 'lastzero:10', seconds: 0.66 },
  { scenario: 'readers:13', seconds: 2.3 },
  { scenario: 'revoke:4', seconds: 3.6 },
];
const WORKERS = 2;
/** Two threads on two cores; the rest goes to starting the second and to what is said between them. */
const WORKERS_BAR = 1.7;
/**
 * 602,280 orders, minutes: what a second thread is for. Each thread compiles for itself, which takes it a second or
 * two, so that it brings less to a search of half a minute (docs/benchmarks.md).
 */
const LARGE = 'close-vs-map:5';

/** Seconds for whole searches, steps each second of the largest of them, and what a second thread brings. */
export async function benchExplore(): Promise<BenchResult[]> {
  const results: BenchResult[] = [];
  for (const { scenario, seconds } of BARS) {
    const value = (await fastest(scenario)).seconds;
    results.push({ name: scenario, value, unit: 's', reference: seconds, ratio: seconds / value });
  }
  const { steps, seconds } = await fastest('lastzero:12');
  const rate = steps / seconds;
  results.push({ name: 'steps', value: rate, unit: 'steps/s', reference: 1e6, ratio: rate / 1e6 });
  return [...results, await fiveImporters(), await workers()];
}

/** Orders, of which there are 602,280, against states. */
async function fiveImporters(): Promise<BenchResult> {
  const orders = await whole({ scenario: 'revoke:5' });
  const { seconds, states } = await whole({ scenario: 'revoke:5', algorithm: 'stateful' });
  const reference = 'every order, one thread';
  const details = { states: states!, orders: orders.executions, ordersSeconds: orders.seconds };
  return {
    name: 'revoke:5 by states',
    value: seconds,
    unit: 's',
    reference,
    ratio: orders.seconds / seconds,
    ...details,
  };
}

async function workers(): Promise<BenchResult> {
  const one = await whole({ scenario: LARGE });
  const all = await whole({ scenario: LARGE, workers: WORKERS });
  for (const count of ['executions', 'blocked', 'steps'] as const) {
    if (one[count] !== all[count]) throw new Error(`${LARGE}: ${count} depend on how many threads search`);
  }
  return {
    name: `${LARGE} by ${WORKERS} threads`,
    value: all.seconds,
    unit: 's',
    reference: 'one thread',
    ratio: one.seconds / all.seconds,
    bar: WORKERS_BAR,
    aloneSeconds: one.seconds,
  };
}
