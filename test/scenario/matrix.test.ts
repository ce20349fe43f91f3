import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runOnEngine } from '../../lab/diff/compare.ts';
import { HOLDERS } from '../../lab/diff/holders.ts';
import { type DeviceTraits, LAB_MACHINE, lendersOf } from '../../lab/diff/lenders.ts';
import { type BrokenBy, type Matrix, Shortest, STAGES, triggerMatrix } from '../../lab/diff/matrix.ts';
import { SIDE_DOORS } from '../../lab/diff/side-doors.ts';
import { loadMachine } from '../../src/machine/load.ts';
import type { MachineDescription } from '../../src/machine/schema.ts';
import type { ProfileName } from '../../src/vfio/profile.ts';

/** With BARTER_FULL up to three: 86,544 programs, some minutes each time. */
const MOST = process.env.BARTER_FULL === '1' ? 3 : 2;
const machine = loadMachine(LAB_MACHINE);
const [barter, igb] = lendersOf({ hasIommufd: false });
const sriov = loadMachine(igb.machine!);
/** The devices of the igb lender that its machine file has. */
const functions = igb.devices.filter(({ name }) => sriov.devices.some((device) => device.name === name));

interface Lenders {
  devices: readonly DeviceTraits[];
  description: MachineDescription;
}

const translated: Lenders = { devices: barter.devices, description: machine };
const passthrough = {
  ...translated,
  description: { ...machine, host: { ...machine.host, iommu: 'passthrough' } as const },
};
const withVirtfn: Lenders = { devices: functions, description: sriov };
const TRIGGERS = triggerMatrix(STAGES, MOST);

function broken(matrix: Matrix, { devices, description }: Lenders, profile: ProfileName): BrokenBy[] {
  const shortest = new Shortest();
  for (const entry of matrix.entries(devices, description, true)) {
    const { sequence, program } = entry;
    const result = runOnEngine(description, program, profile);
    assert.deepEqual(result.blocked, [], sequence.map(({ name }) => name).join(', '));
    for (const violation of matrix.violations(entry, program, result)) shortest.add(violation, sequence);
  }
  return shortest.list();
}

/** The numbers of the findings that explain what Linux breaks. */
function findings(matrix: Matrix, lenders: Lenders): string[] {
  const seen = new Set<string>();
  for (const { violation, triggers } of broken(matrix, lenders, 'linux-7.3')) {
    const finding = matrix.findingOf(violation, triggers);
    assert.notEqual(finding, null, `${triggers.join(', ')}: ${violation.invariant} ${violation.message}`);
    seen.add(finding!.slice(0, 2));
  }
  return [...seen].sort();
}

test('after every sequence of triggers peers may map exactly when the memory can be used', () => {
  assert.deepEqual(broken(TRIGGERS, translated, 'default'), []);
  assert.deepEqual(broken(TRIGGERS, passthrough, 'default'), []);
});

test('what Linux breaks after sequences of triggers is what the findings say', () => {
  assert.deepEqual(findings(TRIGGERS, translated), ['02', '03', '04', '05']);
});

test('a side door tells the peers, and waits for the user alone', () => {
  assert.deepEqual(broken(SIDE_DOORS, translated, 'default'), []);
  assert.deepEqual(broken(SIDE_DOORS, withVirtfn, 'default'), []);
});

test('what Linux breaks through side doors is what the findings say', () => {
  assert.deepEqual(findings(SIDE_DOORS, translated), ['04', '05', '11', '12', '13', '15', '16']);
  assert.deepEqual(findings(SIDE_DOORS, withVirtfn), ['04', '05', '07', '11', '12', '13', '15', '16']);
});

test('whatever holds a buffer, the driver lets go of a closed device', () => {
  assert.deepEqual(broken(HOLDERS, translated, 'default'), []);
});

test('an O_PATH descriptor is what keeps a driver bound in Linux', () => {
  assert.deepEqual(findings(HOLDERS, translated), ['14']);
});
