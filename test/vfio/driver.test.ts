/** The devices that share a set, and the physical function of each virtual function. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { buildMachine } from '../../src/machine/build.ts';
import { parseMachine } from '../../src/machine/load.ts';
import { buildVfioDevices } from '../../src/vfio/driver.ts';
import { PROFILES } from '../../src/vfio/profile.ts';

test('functions of a slot share a set, virtual ones are alone, and know their physical one', () => {
  const machine = `
machine: card
ports: [{ name: slot, kind: root }, { name: other, kind: root }]
devices:
  - name: pf
    model: memory
    port: slot
    bars: [{ index: 0, size: 4K }]
    capabilities: { express: { flr: true }, sriov: { vfDevice: 2 } }
  - { name: vf, model: memory, port: slot, physfn: pf, bars: [{ index: 0, size: 4K }] }
  - { name: sibling, model: memory, port: slot, bars: [{ index: 0, size: 4K }] }
  - { name: far, model: memory, port: other, bars: [{ index: 0, size: 4K }] }
`;
  const { functions } = buildMachine(parseMachine(machine, 'card.yaml'));
  const devices = buildVfioDevices(functions, PROFILES['linux-7.3']);
  const set = (name: string) => devices.get(name)!.deviceSet;
  assert.deepEqual([...devices.keys()], ['pf', 'vf', 'sibling', 'far']);
  assert.equal(set('pf'), set('sibling'));
  assert.deepEqual(set('pf').devices, [devices.get('pf'), devices.get('sibling')]);
  for (const alone of ['vf', 'far']) assert.deepEqual(set(alone).devices, [devices.get(alone)]);
  assert.deepEqual(devices.get('pf')!.virtfns, [devices.get('vf')]);
  assert.notEqual(devices.get('pf')!.vfToken, null);
  for (const name of ['vf', 'sibling']) assert.equal(devices.get(name)!.vfToken, null);
  assert.equal(devices.get('far')!.profile.name, 'linux-7.3');
});
