/** The numbered facts on served devices: the engine's behaviour is the same on the other side of a socket. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { runServed } from '../../src/cli/run.ts';
import { loadMachine } from '../../src/machine/load.ts';
import { loadScenario } from '../../src/scenario/load.ts';
import { UnsupportedStepError } from '../../src/scenario/served/check.ts';
import { PROFILES } from '../../src/vfio/profile.ts';

/** Facts that differ for a process other than the exporter: the steps, and the reasons. */
const OTHERWISE: Record<string, { ops: string[]; why: string }> = {
  '01-feature-envelope.yaml': {
    ops: ['feature'],
    why: 'a message says how long it is: one that ends within its header is EINVAL, where the kernel faults',
  },
  '21-memory-off.yaml': {
    ops: ['mmap-read', 'mmap-write', 'region-read'],
    why: 'nobody can take a mapping of a file away from another process',
  },
  '26-map.yaml': { ops: ['map'], why: 'a session gets the ranges as they are' },
  '27-segments.yaml': { ops: ['map'], why: 'a session gets the ranges as they are, and no scatterlist to cut' },
  '28-map-types.yaml': { ops: ['map'], why: 'a session gets the ranges as they are, whatever lies between' },
};
const facts = fileURLToPath(new URL('../../lab/facts/', import.meta.url));

test('facts hold over vfio-user, or are refused before their first step', async (t) => {
  const count = { held: 0, refused: 0 };
  const otherwise: Record<string, string[]> = {};
  for (const file of readdirSync(facts)) {
    const { scenario, machinePath } = loadScenario(`${facts}${file}`);
    const log: string[] = [];
    const result = await runServed(scenario, loadMachine(machinePath), PROFILES.default, (line) =>
      log.push(line),
    ).catch((error) => {
      assert.ok(error instanceof UnsupportedStepError, file);
      return null;
    });
    if (result === null) {
      count.refused += 1;
      continue;
    }
    assert.deepEqual(log, [], file);
    const unmet = result.steps.filter((step) => 'expected' in step).map(({ op }) => op.split(' ')[0]);
    if (unmet.length === 0) count.held += 1;
    else otherwise[file] = [...new Set(unmet)].sort();
  }
  const named = Object.entries(OTHERWISE).map(([file, { ops }]) => [file, ops]);
  assert.deepEqual(otherwise, Object.fromEntries(named));
  assert.ok(count.held >= 22, `${count.held} held`);
  t.diagnostic(`${count.held} as expected, ${count.refused} refused, ${named.length} otherwise`);
});
