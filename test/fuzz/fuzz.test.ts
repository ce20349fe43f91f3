import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Finding, runFuzzer } from './fuzzer.ts';
import { CANARY, FUZZERS } from './registry.ts';

const SMOKE_MESSAGES = 20_000;

for (const [name, fuzzer] of Object.entries(FUZZERS)) {
  test(`${name}: nothing is found in ${SMOKE_MESSAGES} messages`, () => {
    const coverage = runFuzzer(fuzzer, SMOKE_MESSAGES, 7);
    assert.ok(coverage.lines().length > 0);
  });
}

test('the fuzzer of the server gets far: every command that it sends is answered well, and refused', () => {
  const coverage = runFuzzer(FUZZERS.server, SMOKE_MESSAGES, 8);
  for (const command of ['REGION_READ', 'REGION_WRITE', 'DMA_MAP', 'DEVICE_SET_IRQS', 'DEVICE_FEATURE', 'VERSION']) {
    assert.ok(coverage.get(`server: ${command} ok`) > 0, `${command} ok`);
    assert.ok(coverage.get(`server: ${command} errno 22`) > 0, `${command} EINVAL`);
  }
  assert.ok(coverage.get('server: DMA_READ sent to the client') > 0, 'the engine reads by messages');
  assert.ok(coverage.get('server: DEVICE_RESET ok') > 0);
});

test('the fuzzer of importers gets far: each request succeeds, each is refused, and revokes are held up', () => {
  const coverage = runFuzzer(FUZZERS.importers, SMOKE_MESSAGES, 8);
  for (const command of ['ATTACH', 'DETACH', 'MAP', 'UNMAP', 'ADD_FENCE', 'SIGNAL_FENCE', 'WAIT']) {
    assert.ok(coverage.get(`importers: ${command} ok`) > 0, `${command} ok`);
    assert.ok(coverage.get(`importers: ${command} EINVAL`) > 0, `${command} EINVAL`);
  }
  assert.ok(coverage.get('importers: told INVALIDATE') > 0);
  assert.ok(coverage.get('importers: told RESTORE') > 0);
});

test('the canary dies: a server that loses descriptors is found', () => {
  assert.throws(() => runFuzzer(CANARY, 5000, 9), Finding);
});

test('a seed repeats a run', () => {
  const [a, b] = [1, 2].map(() => runFuzzer(FUZZERS.decoder, 3000, 10).lines());
  assert.deepEqual(a, b);
});
