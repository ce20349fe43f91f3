/** A short soak of a right server, and of one that leaks. `npm run soak -- --minutes 60` runs a long one. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { missingStages } from '../../lab/host/prepare.ts';
import { barter } from '../cli/barter.ts';
import { availableActors, MAX_SETTLE_MS, roundSeconds, runSoak } from './soak.ts';
import { QUANTITIES } from './usage.ts';

const SECONDS = 120;
const isCi = process.env.CI === 'true';

before(() => {
  if (!isCi || missingStages().length === 0) return;
  const { status, stderr } = barter('lab', 'prepare');
  assert.equal(status, 0, stderr);
});

test(`everything at once for ${SECONDS} s: nothing grows, and nothing is wrong`, async (t) => {
  const print = (line: string): void => t.diagnostic(line);
  const faults = await runSoak({
    seconds: SECONDS,
    roundSeconds: roundSeconds(SECONDS),
    settleMs: MAX_SETTLE_MS,
    seed: Date.now() & 0x7fffffff,
    actors: availableActors(print),
    leaks: [],
    print,
  });
  assert.deepEqual(faults, []);
});

test('canary: each quantity that a server leaks is found, and named', async (t) => {
  const faults = await runSoak({
    seconds: 8,
    roundSeconds: 2,
    settleMs: 2000,
    seed: 1,
    actors: ['moving'],
    leaks: QUANTITIES,
    print: (line) => t.diagnostic(line),
  });
  for (const each of QUANTITIES) {
    assert.ok(
      faults.some((fault) => fault.startsWith(`${each} grew to `)),
      `${each} is not among:\n${faults.join('\n')}`,
    );
  }
});
