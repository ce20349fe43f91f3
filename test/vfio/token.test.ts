/** The VF token: the opens that must present it, and the opens for which it is an error. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { buildMachine } from '../../src/machine/build.ts';
import { parseMachine } from '../../src/machine/load.ts';
import { runner } from '../../src/task/runner.ts';
import { buildVfioDevices } from '../../src/vfio/driver.ts';
import { PROFILES } from '../../src/vfio/profile.ts';

import { BufferMemory } from '../../src/vfio/user.ts';
import { callerWith } from './rig.ts';

const MACHINE = `
machine: card
ports: [{ name: slot, kind: root }]
devices:
  - name: pf
    model: memory
    port: slot
    bars: [{ index: 0, size: 4K }]
    capabilities: { express: { flr: true }, sriov: { vfDevice: 2 } }
  - { name: vf, model: memory, port: slot, physfn: pf, bars: [{ index: 0, size: 4K }] }
  - { name: plain, model: memory, port: slot, bars: [{ index: 0, size: 4K }] }
`;
const VF_TOKEN_BYTES = 16;
const uuid = (byte: number): Uint8Array => new Uint8Array(VF_TOKEN_BYTES).fill(byte);

function rig() {
  const devices = buildVfioDevices(buildMachine(parseMachine(MACHINE, 'card.yaml')).functions, PROFILES.default);
  const device = (name: string) => devices.get(name)!;
  const open = (name: string, token: Uint8Array | null = null) => runner.run(device(name).open(token));
  const set = (name: string, token: Uint8Array, argsz = 24): unknown => {
    const arg = Buffer.alloc(8 + token.length);
    arg.writeUInt32LE(argsz);
    arg.writeUInt32LE(1 << 17, 4);
    arg.set(token, 8);
    return runner.run(device(name).feature(new BufferMemory(arg), callerWith([])));
  };
  return { device, open, set };
}

test('a virtual function wants the token of its physical one; nobody knows it before it is set', () => {
  const { open, set } = rig();
  for (const token of [null, uuid(0), uuid(1)]) assert.throws(() => open('vf', token), { code: 'EACCES' });
  open('pf');
  assert.equal(set('pf', uuid(1)), 0);
  assert.throws(() => open('vf', uuid(2)), { code: 'EACCES' });
  assert.throws(() => open('vf', uuid(1).subarray(1)), { code: 'EACCES' });
  open('vf', uuid(1));
});

test('while a virtual function is open, opening the physical one wants the token too', () => {
  const { device, open } = rig();
  open('pf', uuid(1));
  open('vf', uuid(1));
  runner.run(device('pf').close());
  for (const token of [null, uuid(2)]) assert.throws(() => open('pf', token), { code: 'EACCES' });
  open('pf', uuid(1));
  runner.run(device('vf').close());
  runner.run(device('pf').close());
  open('pf');
});

test('a token where none is needed is EINVAL, and one that cannot be set ENOTTY; both leave all as it was', () => {
  const { device, open, set } = rig();
  assert.throws(() => open('plain', uuid(1)), { code: 'EINVAL' });
  assert.equal(device('plain').isOpen, false);
  open('plain');
  assert.throws(() => set('plain', uuid(1)), { code: 'ENOTTY' });
  open('pf', uuid(3));
  assert.throws(() => set('pf', uuid(1), 23), { code: 'EINVAL' });
  open('vf', uuid(3));
});
