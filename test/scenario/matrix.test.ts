import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runOnEngine } from '../../lab/diff/compare.ts';
import { LAB_MACHINE, lendersOf } from '../../lab/diff/lenders.ts';
import { type BrokenBy, findingOf, matrix, Shortest, STAGES, violations } from '../../lab/diff/matrix.ts';
import { loadMachine } from '../../src/machine/load.ts';
import type { ProfileName } from '../../src/vfio/profile.ts';

/** With BARTER_FULL up to three: 86,544 programs, some minutes each time. */
const MOST = process.env.BARTER_FULL === '1' ? 3 : 2;
const machine = loadMachine(LAB_MACHINE);
const [device] = lendersOf({ hasIommufd: false })[0].devices;

function broken(profile: ProfileName, iommu: 'translated' | 'passthrough'): BrokenBy[] {
  const shortest = new Shortest();
  const described = { ...machine, host: { ...machine.host, iommu } };
  for (const { sequence, program } of matrix(device, STAGES, MOST)) {
    const result = runOnEngine(described, program, profile);
    assert.deepEqual(result.blocked, [], sequence.map(({ name }) => name).join(', '));
    for (const violation of violations(program, result)) shortest.add(violation, sequence);
  }
  return shortest.list();
}

test('after every sequence of triggers peers may map exactly when the memory can be used', () => {
  assert.deepEqual(broken('default', 'translated'), []);
  assert.deepEqual(broken('default', 'passthrough'), []);
});

test('what Linux breaks after sequences of triggers is what the findings say', () => {
  const seen = new Set<string>();
  for (const { violation, triggers } of broken('linux-7.3', 'translated')) {
    const finding = findingOf(violation, triggers);
    assert.notEqual(finding, null, `${triggers.join(', ')}: ${violation.invariant} ${violation.message}`);
    seen.add(finding!.slice(0, 2));
  }
  assert.deepEqual([...seen].sort(), ['02', '03', '04', '05']);
});
