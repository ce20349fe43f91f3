import assert from 'node:assert/strict';
import { test } from 'node:test';
import { buildMachine } from '../../src/machine/build.ts';
import { parseMachine } from '../../src/machine/load.ts';
import { EngineBackend } from '../../src/scenario/engine.ts';
import { runScenario } from '../../src/scenario/run.ts';
import { type Scenario, scenarioSchema } from '../../src/scenario/step.ts';
import { PROFILES, type ProfileName } from '../../src/vfio/profile.ts';

/** Two devices below a root port each: the way between them leads through the IOMMU. */
const MACHINE = `
machine: apart
ports:
  - { name: root0, kind: root }
  - { name: root1, kind: root }
devices:
  - { name: lender, model: memory, port: root0, bars: [{ index: 0, size: 1M }] }
  - { name: borrower, model: ioat, port: root1 }
`;

function mapResult(profile: ProfileName, ranges: [number, number][]): unknown {
  const scenario: Scenario = scenarioSchema.parse({
    scenario: 'several-ranges',
    description: 'map a dma-buf through the IOMMU',
    machine: 'apart',
    tasks: {
      user: [
        { op: 'open', device: 'lender' },
        { op: 'export', device: 'lender', region: 0, ranges, as: 'buffer' },
        { op: 'attach', fd: 'buffer', device: 'borrower', as: 'peer' },
        { op: 'map', importer: 'peer', as: 'mapping' },
      ],
    },
  });
  const { steps } = runScenario(
    scenario,
    new EngineBackend(buildMachine(parseMachine(MACHINE, 'apart.yaml')), PROFILES[profile]),
  );
  const { result } = steps.at(-1)!;
  return 'ok' in result ? result.ok : result.errno;
}

test('several ranges map through an IOMMU as one segment; Linux 7.3 gives EADDRINUSE (kernel finding 1)', () => {
  const two: [number, number][] = [
    [0, 4096],
    [8192, 8192],
  ];
  assert.deepEqual(mapResult('default', two), [12288]);
  assert.equal(mapResult('linux-7.3', two), 'EADDRINUSE');
  assert.deepEqual(mapResult('linux-7.3', [[4096, 8192]]), [8192]);
});
