/** The machines of the product's scenarios: the one of examples/two-peers.yaml, and variants of it. */

import { packageFile } from '../../linux/package-file.ts';
import { loadMachine } from '../../machine/load.ts';
import type { MachineDescription } from '../../machine/schema.ts';

export const PEERS = loadMachine(packageFile('examples/two-peers.yaml'));

/** The lender is one of two functions of a card: a hot reset resets both. */
export const SIBLINGS: MachineDescription = {
  ...PEERS,
  devices: PEERS.devices.flatMap((device) =>
    device.name === 'lender' ? [device, { ...device, name: 'sibling' }] : [device],
  ),
};

/** The lender is a physical function, and one of its virtual functions lends too. */
export const VIRTUAL: MachineDescription = {
  ...PEERS,
  devices: PEERS.devices.flatMap((device) => {
    if (device.name !== 'lender' || device.model !== 'memory') return [device];
    const physical = { ...device, capabilities: { ...device.capabilities, sriov: { vfDevice: 0x0b04 } } };
    return [physical, { ...device, name: 'vf', physfn: 'lender' }];
  }),
};

/** The borrower is a virtio GPU. */
export const SCREEN: MachineDescription = {
  ...PEERS,
  devices: PEERS.devices.map((device) => {
    if (device.name !== 'borrower') return device;
    const capabilities = { pm: {}, express: { flr: true } };
    const size = { scanouts: 1, width: 1, height: 1 };
    return { name: 'borrower', model: 'virtio-gpu', port: device.port, ...size, capabilities };
  }),
};
