/** How fast the explorer is, against the best C tools on the same programs on a two-core machine. */

import type { ExploreOptions, ExploreResult } from '../src/explore/explore.ts';
import { explore } from '../src/verify/explore.ts';
import { exploreByWorkers, hasRedis } from './local-queue.ts';
import type { BenchResult } from './result.ts';

/** Runs a whole search. Throws an Error if the search is cut short or blocks a run. */
async function whole(options: ExploreOptions): Promise<ExploreResult> {
  const result = await explore(options);
  const isWhole = result.complete && (result.blocked === 0 || result.states !== null);
  if (!isWhole) throw new Error(`${options.scenario} was not explored completely`);
  return result;
}

/** The fastest of three runs, since other load only slows a short search down. */
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
/** Two threads on two cores. The rest goes to starting the second thread and to messages between them. */
const WORKERS_BAR = 1.7;
/**
 * A search of 602,280 orders and several minutes, long enough for a second thread to pay off. Each thread compiles its
 * own code for a second or two, so a second thread helps less in a search of half a minute (docs/benchmarks.md).
 */
const LARGE = 'close-vs-map:5';
/** Two workers of a queue on two cores. The asking process and Redis take the rest. */
const QUEUE_BAR = 1.6;
/** A search of the product at commit 7efc41a, on a quiet machine with two cores: the rate of :4, and the time of :5. */
const PRODUCT = { scenario: 'revoke-vs-map', rate: 172e3, seconds: 895 };
/** How much less time a search of alike importers may take. */
const ALIKE_BAR = 10;

/** The seconds of whole searches, the steps per second of the largest one, and the speed-up by a second thread. */
export async function benchExplore(): Promise<BenchResult[]> {
  const results: BenchResult[] = [];
  for (const { scenario, seconds } of BARS) {
    const value = (await fastest(scenario)).seconds;
    results.push({ name: scenario, value, unit: 's', reference: seconds, ratio: seconds / value });
  }
  const { steps, seconds } = await fastest('lastzero:12');
  const rate = steps / seconds;
  results.push({ name: 'steps', value: rate, unit: 'steps/s', reference: 1e6, ratio: rate / 1e6 });
  return [...results, await fiveImporters(), await productRate(), await alikeImporters(), ...(await workers())];
}

/** The steps per second of a search of the product that takes every order. */
async function productRate(): Promise<BenchResult> {
  const scenario = `${PRODUCT.scenario}:4`;
  const { steps, seconds, executions } = await whole({ scenario, everyOrder: true });
  const [value, reference] = [steps / seconds, PRODUCT.rate];
  return { name: `${scenario}, every order`, value, unit: 'steps/s', reference, ratio: value / reference, executions };
}

/** A search that takes one of the orders that exchange alike importers. */
async function alikeImporters(): Promise<BenchResult> {
  const scenario = `${PRODUCT.scenario}:5`;
  const { seconds: value, executions } = await whole({ scenario });
  const { seconds: reference } = PRODUCT;
  const ratio = reference / value;
  return { name: `${scenario}, alike importers`, value, unit: 's', reference, ratio, bar: ALIKE_BAR, executions };
}

/** A search of the 602,280 orders, against a search of the states. */
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

async function workers(): Promise<BenchResult[]> {
  const one = await whole({ scenario: LARGE });
  const compared = (all: ExploreResult, how: string, bar: number): BenchResult => {
    for (const count of ['executions', 'blocked', 'steps'] as const) {
      if (one[count] !== all[count]) throw new Error(`${LARGE}: ${count} depend on how many search`);
    }
    const [value, ratio] = [all.seconds, one.seconds / all.seconds];
    return {
      name: `${LARGE} by ${how}`,
      value,
      unit: 's',
      reference: 'one thread',
      ratio,
      bar,
      aloneSeconds: one.seconds,
    };
  };
  const threads = await whole({ scenario: LARGE, workers: WORKERS });
  const results = [compared(threads, `${WORKERS} threads`, WORKERS_BAR)];
  if (hasRedis()) {
    const queue = await exploreByWorkers(LARGE, WORKERS);
    results.push(compared(queue, `${WORKERS} workers through Redis`, QUEUE_BAR));
  } else
    console.error('explore: no redis-server on this machine, so no workers of a queue; apt-get install redis-server');
  return results;
}
