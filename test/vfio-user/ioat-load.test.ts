import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Random } from '../../src/explore/search/random.ts';
import { CopyLoad } from './copy-load.ts';
import { withServer } from './served.ts';

/** How much longer the load may go on until a revoke interrupts a copy. */
const MAX_MORE_SECONDS = 60;
/** BARTER_LOAD_SECONDS=60 takes a minute. The test prints its seed, and BARTER_SEED sets it. */
const SECONDS = Number(process.env.BARTER_LOAD_SECONDS ?? 3);
const SEED = Number(process.env.BARTER_SEED ?? Date.now() % 2 ** 31);

const server = await withServer();

test(`copies of 4 KiB to 1 MiB for ${SECONDS} s, with revokes at random moments`, async (t) => {
  await server.assertNothingLeft();
  t.diagnostic(`seed ${SEED}`);
  const load = new CopyLoad(server.path('lender'), server.path('borrower'), new Random(SEED));
  try {
    const end = performance.now() + 1000 * SECONDS;
    // On a busy machine it takes longer until a revoke interrupts a copy.
    const last = end + 1000 * MAX_MORE_SECONDS;
    while (performance.now() < end || (load.inMidst === 0 && performance.now() < last)) load.round();
    const { copies, revokes, inMidst } = load;
    t.diagnostic(`${copies} copies, ${revokes} revokes, ${inMidst} in the midst of a copy`);
    assert.ok(inMidst > 0, 'no revoke came in the midst of a copy');
  } finally {
    load.close();
  }
  await server.assertNothingLeft();
});
