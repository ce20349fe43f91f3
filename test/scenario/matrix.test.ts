import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runOnEngine } from '../../lab/diff/compare.ts';
import { LAB_MACHINE, lendersOf } from '../../lab/diff/lenders.ts';
import { matrixProgram, Shortest, sequences, stages, triggers, violations } from '../../lab/diff/matrix.ts';
import { loadMachine } from '../../src/machine/load.ts';
import type { ProfileName } from '../../src/vfio/profile.ts';

/** Of three with BARTER_FULL: 86,544 programs, some minutes a profile. */
const MOST = process.env.BARTER_FULL === '1' ? 3 : 2;
const machine = loadMachine(LAB_MACHINE);
const [device] = lendersOf('distribution')[0].devices;

function broken(profile: ProfileName): { triggers: string[]; what: string }[] {
  const shortest = new Shortest();
  for (const stage of stages(device)) {
    for (const sequence of sequences(triggers(device), MOST)) {
      const program = matrixProgram(device, sequence, stage);
      const result = runOnEngine(machine, program, profile);
      assert.deepEqual(result.blocked, [], sequence.map(({ name }) => name).join(', '));
      for (const violation of violations(program, result)) shortest.add(violation, sequence);
    }
  }
  return shortest.list().map(({ violation, triggers }) => ({
    triggers,
    what: `${violation.invariant} ${violation.message}`,
  }));
}

test('after every sequence of triggers peers may map exactly when the memory can be used', () => {
  assert.deepEqual(broken('default'), []);
});

test('what Linux breaks after sequences of triggers is what the findings say', () => {
  const seen = new Set<number>();
  for (const { triggers, what } of broken('linux-7.3')) {
    const finding = findingOf(triggers, what);
    assert.notEqual(finding, null, `${triggers.join(', ')}: ${what}`);
    seen.add(finding!);
  }
  assert.deepEqual([...seen].sort(), [2, 3, 4, 5]);
});

/** The number of the finding in docs/kernel-findings.md that explains a violation. */
function findingOf(triggers: string[], what: string): number | null {
  if (what.startsWith('I6')) return triggers[0] === 'sleep-with-wakeup' ? 5 : null;
  if (triggers.length === 1 && /^D[12]$/.test(triggers[0])) return 2;
  if (triggers[0] === 'sleep') return triggers.length === 1 && what.includes('a new buffer') ? 4 : 3;
  return null;
}
