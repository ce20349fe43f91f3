/** The numbered facts on served devices: what is the engine's stays so on the other side of a socket. */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { loadMachine } from '../../src/machine/load.ts';
import { serveMachine } from '../../src/machine/served.ts';
import { loadScenario } from '../../src/scenario/load.ts';
import { runScenario } from '../../src/scenario/run.ts';
import { VfioUserBackend } from '../../src/scenario/vfio-user.ts';
import { checkForVfioUser, UnsupportedStepError } from '../../src/scenario/vfio-user-check.ts';

/** Where a process beside the exporter sees something else: the steps, and why. */
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
const facts = fileURLToPath(new URL('./facts/', import.meta.url));

test('facts hold over vfio-user, or are refused before their first step', async (t) => {
  const socketDir = mkdtempSync(join(tmpdir(), 'barter-facts-'));
  const count = { held: 0, refused: 0 };
  const otherwise: Record<string, string[]> = {};
  for (const file of readdirSync(facts)) {
    const { scenario, machinePath } = loadScenario(`${facts}${file}`);
    try {
      checkForVfioUser(scenario);
    } catch (error) {
      assert.ok(error instanceof UnsupportedStepError, file);
      count.refused += 1;
      continue;
    }
    const log: string[] = [];
    const served = await serveMachine(loadMachine(machinePath), {
      socketDir,
      profile: 'default',
      log: (line) => log.push(line),
    });
    const result = runScenario(scenario, new VfioUserBackend(served, false));
    await served.stop();
    assert.deepEqual(log, [], file);
    const unmet = result.steps.filter((step) => 'expected' in step).map(({ op }) => op.split(' ')[0]);
    if (unmet.length === 0) count.held += 1;
    else otherwise[file] = [...new Set(unmet)].sort();
  }
  rmSync(socketDir, { recursive: true });
  const named = Object.entries(OTHERWISE).map(([file, { ops }]) => [file, ops]);
  assert.deepEqual(otherwise, Object.fromEntries(named));
  assert.ok(count.held >= 22, `${count.held} held`);
  t.diagnostic(`${count.held} as expected, ${count.refused} refused, ${named.length} otherwise`);
});
