import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { VFIO_USER_COMMAND_NAMES } from '../../src/abi/vfio-user.ts';
import { ASYNC_OPS } from './async-steps.ts';
import { CLIENT_OPS } from './client-steps.ts';
import { FuzzFinding, type FuzzResult, runFuzzer } from './fuzzer.ts';
import { CANARIES, FUZZERS } from './registry.ts';
import { replaySteps } from './replay.ts';
import { shrink } from './shrink.ts';

/** More than a million in total. The client's server is silent at times, which takes real time. */
const MESSAGES: Record<string, number> = {
  server: 1_000_000,
  importers: 50_000,
  decoder: 200_000,
  'machine-file': 40_000,
  client: 10_000,
  'async-client': 2000,
};
const SEED = 7;

function assertGetsFar({ coverage }: FuzzResult): void {
  const told = `\n${coverage.table()}\n${coverage.lines().join('\n')}`;
  for (const name of VFIO_USER_COMMAND_NAMES.values()) {
    assert.ok(coverage.outcomesOf(name).size > 0, `${name} was never answered${told}`);
  }
  for (const command of ['REGION_READ', 'REGION_WRITE', 'DMA_MAP', 'DEVICE_SET_IRQS', 'DEVICE_FEATURE', 'VERSION']) {
    const outcomes = coverage.outcomesOf(command);
    assert.ok(outcomes.has('ok') && outcomes.has('EINVAL'), `${command} is done, and refused${told}`);
  }
  for (const command of ['DMA_READ', 'DMA_WRITE']) {
    assert.ok(coverage.outcomesOf(command).has('sent to the client'), `the engine sends ${command}${told}`);
  }
  for (const what of ['reads of bytes that were written or read before', 'DMA_MAP as expected']) {
    assert.ok(coverage.get(`server: model: ${what}`) > 1000, `${what}${told}`);
  }
}

function assertImportersGetFar({ coverage }: FuzzResult): void {
  for (const command of ['ATTACH', 'DETACH', 'MAP', 'UNMAP', 'ADD_FENCE', 'SIGNAL_FENCE', 'WAIT']) {
    const outcomes = coverage.outcomesOf(command);
    assert.ok(outcomes.has('ok') && outcomes.has('EINVAL'), `${command} is done, and refused\n${coverage.table()}`);
  }
  assert.ok(coverage.get('importers: told INVALIDATE') > 0);
  assert.ok(coverage.get('importers: told RESTORE') > 0);
}

function assertClientGetsFar({ coverage }: FuzzResult, ops: object): void {
  for (const op of Object.keys(ops)) {
    const outcomes = coverage.outcomesOf(op);
    assert.ok(outcomes.has('ok') && outcomes.size > 1, `${op} is done, and fails\n${coverage.table()}`);
  }
  assert.ok(coverage.outcomesOf('lies').size >= 15, 'every lie is told');
}

for (const [name, fuzzer] of Object.entries(FUZZERS)) {
  test(`${name}: nothing is found in ${MESSAGES[name]} messages`, async () => {
    const result = await runFuzzer(fuzzer, MESSAGES[name], SEED);
    assert.ok(result.coverage.lines().length > 0);
    if (name === 'server') assertGetsFar(result);
    if (name === 'client') assertClientGetsFar(result, CLIENT_OPS);
    if (name === 'async-client') assertClientGetsFar(result, ASYNC_OPS);
    if (name === 'importers') assertImportersGetFar(result);
  });
}

/** Steps that show a canary. The timing of asynchronous calls varies, so their steps are cut down less well. */
const fewSteps = (name: string): number => (name.startsWith('canary-async') ? 40 : 12);

for (const [name, fuzzer] of Object.entries(CANARIES)) {
  test(`${name} dies, and few steps are enough to see why`, async () => {
    await assert.rejects(
      () => runFuzzer(fuzzer, 20_000, 9),
      (error) =>
        error instanceof FuzzFinding && Number(/(\d+) of \d+ steps suffice/.exec(error.message)?.[1]) < fewSteps(name),
    );
  });
}

test('a seed repeats a run', async () => {
  const [a, b] = [await runFuzzer(FUZZERS.decoder, 3000, 10), await runFuzzer(FUZZERS.decoder, 3000, 10)];
  assert.deepEqual(a.coverage.lines(), b.coverage.lines());
});

test('shrink: what is needed stays, in order', async () => {
  const steps = Array.from({ length: 1000 }, (_, i) => i);
  const needs = [17, 500, 501, 998];
  const fails = (some: readonly number[]) => needs.every((step) => some.includes(step));
  assert.deepEqual(await shrink(steps, fails, 10_000), needs);
});

const FOUND = new URL('./found/', import.meta.url);

for (const name of readdirSync(FOUND)) {
  test(`found once: ${name}`, async () => {
    await replaySteps(readFileSync(new URL(name, FOUND), 'utf8'));
  });
}
