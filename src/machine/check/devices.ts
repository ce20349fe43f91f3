/** The rules for devices beyond the schema: their ports, their virtual functions, and their ids. */
import { physfnOf } from '../physfn.ts';
import type { DeviceDescription, MachineDescription } from '../schema.ts';
import type { Problem } from '../yaml.ts';
import { findBarProblem, findMsixProblem } from './bars.ts';
import { findCapturedProblem, totalVirtfns } from './captured.ts';

/** A card has 8 functions. Virtual ones follow them, up to the end of the bus. */
const MAX_FUNCTIONS = 8;
const MAX_ON_BUS = 256;
const CLASS_PCI_BRIDGE = 0x0604;

/** The devices before the one under check. */
interface Before {
  devices: Map<string, DeviceDescription>;
  onPort: Map<string, number>;
  virtfns: Map<string, number>;
}

export function findDeviceProblem(machine: MachineDescription): Problem | null {
  const before: Before = { devices: new Map(), onPort: new Map(), virtfns: new Map() };
  for (const [i, device] of machine.devices.entries()) {
    const problem = findProblemOf(device, machine, before);
    if (problem !== null) return { ...problem, path: ['devices', i, ...problem.path] };
    before.devices.set(device.name, device);
    before.onPort.set(device.port, (before.onPort.get(device.port) ?? 0) + 1);
  }
  return null;
}

function findProblemOf(device: DeviceDescription, machine: MachineDescription, before: Before): Problem | null {
  if (before.devices.has(device.name)) return { path: ['name'], message: `the name ${device.name} is taken` };
  const physfn = physfnOf(device);
  const message = findPlaceProblem(device, physfn !== undefined, machine, before);
  if (message !== null) return { path: ['port'], message };
  if (device.model === 'captured') {
    const problem = findBarProblem(device.bars, physfn !== undefined) ?? findCapturedProblem(device);
    return problem ?? findPhysfnProblem(device, physfn, before);
  }
  // Its ids are those of the virtio specification.
  if (device.model === 'virtio-gpu') return null;
  const problem = findIdentityProblem(device) ?? findPhysfnProblem(device, physfn, before);
  if (problem !== null || device.model === 'ioat') return problem;
  return findBarProblem(device.bars, physfn !== undefined) ?? findMemoryProblem(device);
}

function findPlaceProblem(
  { port: name }: DeviceDescription,
  isVirtfn: boolean,
  { ports }: MachineDescription,
  { onPort }: Before,
): string | null {
  const port = ports.find((other) => other.name === name);
  if (port === undefined) return `there is no port ${name}`;
  if (port.kind === 'upstream') return `${name} is the upstream port of a switch; plug into a downstream one`;
  if (ports.some((other) => other.parent === name)) return `a switch is in ${name}`;
  const functions = onPort.get(name) ?? 0;
  if (functions >= MAX_ON_BUS) return `the bus below ${name} has ${MAX_ON_BUS} functions, virtual ones included`;
  if (functions < MAX_FUNCTIONS || isVirtfn) return null;
  return `a card has ${MAX_FUNCTIONS} functions, and virtual ones after them; use another port`;
}

/** Checks a virtual function: SR-IOV 1.1 limits its fields, and its physical function must allow it. */
function findPhysfnProblem(device: DeviceDescription, name: string | undefined, before: Before): Problem | null {
  if (name === undefined) return null;
  const at = (message: string): Problem => ({ path: ['physfn'], message });
  const physfn = before.devices.get(name);
  if (physfn === undefined)
    return at(`a virtual function comes after its physical one, and there is no ${name} before`);
  if (physfn.port !== device.port) return at(`${name} is in ${physfn.port}, and its virtual functions with it`);
  const already = before.virtfns.get(name) ?? 0;
  const most = maxVirtfns(physfn);
  if (most === 0) return at(`${name} is not a physical function: it has no SR-IOV capability`);
  if (already >= most) return at(`${name} has ${most} virtual functions at most`);
  before.virtfns.set(name, already + 1);
  if (device.model !== 'memory') return null;
  const { intx, sriov } = device.capabilities;
  if (intx === true)
    return { path: ['capabilities', 'intx'], message: 'a virtual function has no INTx; use msi or msix' };
  if (sriov === undefined) return null;
  return { path: ['capabilities', 'sriov'], message: 'a virtual function has no virtual functions' };
}

function maxVirtfns(device: DeviceDescription): number {
  if (device.model === 'captured') return totalVirtfns(device);
  return device.model === 'memory' && device.capabilities.sriov !== undefined ? MAX_ON_BUS : 0;
}

function findIdentityProblem(device: Extract<DeviceDescription, { vendor: number; class: number }>): Problem | null {
  const { vendor, device: id } = device;
  if (vendor === 0xffff || (vendor === 0 && (id === 0 || id === 0xffff))) {
    return { path: ['vendor'], message: 'this is what an empty slot reads: no driver would find the device' };
  }
  if (device.class >> 8 !== CLASS_PCI_BRIDGE) return null;
  return {
    path: ['class'],
    message: 'class 0x0604 is a bridge, which has another header; describe bridges under ports',
  };
}

function findMemoryProblem({ bars, capabilities }: Extract<DeviceDescription, { model: 'memory' }>): Problem | null {
  const { msix, sriov, express } = capabilities;
  if (sriov !== undefined && express === undefined) {
    return { path: ['capabilities', 'sriov'], message: 'SR-IOV is a part of PCI Express; add express: { flr: true }' };
  }
  if (msix === undefined) return null;
  const { vectors, bar, tableOffset, pbaOffset } = msix;
  const place = { vectors, table: { bar, offset: tableOffset }, pba: { bar, offset: pbaOffset } };
  const problem = findMsixProblem(place, bars);
  if (problem === null) return null;
  const field = { vectors: 'vectors', bar: 'bar', table: 'tableOffset', pba: 'pbaOffset' }[problem.part];
  return { path: ['capabilities', 'msix', field], message: problem.message };
}
