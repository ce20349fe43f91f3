/** Features that are proposed for Linux: the profile `next` alone has them, in process and over vfio-user. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runServed } from '../../src/cli/run.ts';
import { buildMachine } from '../../src/machine/build.ts';
import { loadMachine } from '../../src/machine/load.ts';
import type { MachineDescription } from '../../src/machine/schema.ts';
import { EngineBackend } from '../../src/scenario/engine/backend.ts';
import { loadScenario } from '../../src/scenario/load.ts';
import { type RunResult, runScenario } from '../../src/scenario/run.ts';
import type { Scenario } from '../../src/scenario/step.ts';
import { PROFILES, type Profile } from '../../src/vfio/profile.ts';

const IN_PROCESS = ['mmap-of-a-buffer', 'revoke-for-good', 'tph'];
/** The descriptor of a served buffer is a socket: a process cannot map it, nor ask it for hints. */
const SERVED = ['revoke-for-good'];
const OTHER_NUMBERS: Profile = { ...PROFILES.next, proposed: { revoke: 77, tph: 78 } };

function holds({ steps, blocked }: RunResult): void {
  assert.deepEqual(blocked, []);
  assert.deepEqual(
    steps.filter((step) => 'expected' in step),
    [],
  );
}

function load(name: string): { scenario: Scenario; machine: MachineDescription } {
  const { scenario, machinePath } = loadScenario(name);
  return { scenario, machine: loadMachine(machinePath) };
}

for (const name of IN_PROCESS) {
  for (const profile of [...Object.values(PROFILES), OTHER_NUMBERS]) {
    test(`${name} on ${profile.name}, features ${profile.proposed?.revoke} and ${profile.proposed?.tph}`, () => {
      const { scenario, machine } = load(name);
      holds(runScenario(scenario, new EngineBackend(buildMachine(machine), profile)));
    });
  }
}

for (const name of SERVED) {
  for (const profile of [PROFILES.default, PROFILES.next, OTHER_NUMBERS]) {
    test(`${name} over vfio-user on ${profile.name}, feature ${profile.proposed?.revoke}`, async () => {
      const { scenario, machine } = load(name);
      holds(await runServed(scenario, machine, profile, assert.fail));
    });
  }
}

test('an I/O address space takes a buffer of several ranges, end to end', () => {
  const machine = load('tph').machine;
  const scenario: Scenario = {
    scenario: 'several-ranges',
    description: 'A buffer of several ranges in an address space.',
    machine: 'hints',
    tasks: {
      user: [
        { op: 'open', device: 'lender', cdev: true },
        {
          op: 'export',
          device: 'lender',
          region: 0,
          ranges: [
            [0x4000, 0x1000],
            [0, 0x1000],
          ],
          as: 'two',
        },
        { op: 'ioas-alloc', as: 'space' },
        { op: 'ioas-attach', device: 'lender', ioas: 'space' },
        { op: 'ioas-map-file', ioas: 'space', fd: 'two', start: 0, length: 0x2000, iova: 0x100000 },
        { op: 'ioas-translations', device: 'lender' },
        { op: 'memory', device: 'lender', on: false },
        { op: 'ioas-translations', device: 'lender' },
      ],
    },
  };
  const { steps } = runScenario(scenario, new EngineBackend(buildMachine(machine), PROFILES.next));
  assert.deepEqual(steps[4].result, { ok: null });
  assert.deepEqual(steps[5].result, {
    ok: [
      [0x100000, 0x1000, 'lender BAR 0 + 0x4000'],
      [0x101000, 0x1000, 'lender BAR 0 + 0x0'],
    ],
  });
  assert.deepEqual(steps[7].result, { ok: [] }, 'a revoke takes both');
});
