/** The accesses to a device's config space that the guest and the engine both make, and the engine's results. */
import { Errno } from '../../src/abi/errno.ts';
import { VFIO_PCI_CONFIG_REGION_INDEX } from '../../src/abi/vfio.ts';
import { ConfigSpace } from '../../src/pci/config-space.ts';
import { Fabric } from '../../src/pci/fabric.ts';
import { PciFunction } from '../../src/pci/function.ts';
import { Port } from '../../src/pci/port.ts';
import { Vpd } from '../../src/pci/vpd.ts';
import { runner } from '../../src/task/runner.ts';
import { VfioPciCoreDevice } from '../../src/vfio/core.ts';
import { PROFILES } from '../../src/vfio/profile.ts';
import type { ConfigAccesses, ConfigAnswers } from '../agent/config-accesses.ts';
import { CapabilityDevice, type CapabilityDeviceSpec, VPD_NAME, VPD_WRITABLE_BYTES } from './devices.ts';

const VPD_BYTES = 8;

export type Access = ConfigAccesses['accesses'][number];
export type Answers = ConfigAnswers['answers'];

/** A capability's place in config space. */
export interface PlacedCapability {
  id: number;
  extended: boolean;
  start: number;
  end: number;
}

/** A device's registers as the server has them, without a machine around it. */
export interface Laid {
  /** Config space as the server has it. */
  config: ConfigSpace;
  capabilities: PlacedCapability[];
  skip: number[];
}

export function layOut(spec: CapabilityDeviceSpec): Laid {
  const config = new ConfigSpace(spec.extended.length > 0 ? 4096 : 256);
  config.addCapability(0x03, 0x40);
  config.allow(0x42, 2, 0xffff);
  config.allow(0x44, 4, 0xffffffff);
  new CapabilityDevice(spec).bind({ config } as PciFunction);
  const starts = config.capabilities();
  const capabilities = starts.map(({ id, extended, offset }) => {
    const behind = starts.filter((one) => one.extended === extended && one.offset > offset).map((one) => one.offset);
    const bytes = (extended ? spec.extended : spec.standard).find((body) => body.id === id)?.bytes ?? VPD_BYTES;
    return { id, extended, start: offset, end: Math.min(...behind, offset + ((bytes + 3) & ~3)) };
  });
  // QEMU enables vectors as soon as their bits are set.
  const skip = capabilities
    .filter(({ id, extended }) => !extended && (id === 0x05 || id === 0x11))
    .map((one) => one.start);
  return { config, capabilities, skip };
}

/** Reads every byte, then writes ones and zeros to each, by bytes and by dwords. */
export function accessesOf(capabilities: readonly PlacedCapability[], sizeBytes: number): Access[] {
  const accesses: Access[] = [
    [0x06, 2, null],
    [0x34, 1, null],
  ];
  for (let at = 0x40; at < sizeBytes; at += 4) accesses.push([at, 4, null]);
  for (const { start, end } of capabilities) {
    for (let at = start; at < end; at++) accesses.push([at, 1, null]);
    for (let at = start; at < end; at++) {
      accesses.push([at, 1, 0xff], [at, 1, null], [at, 1, 0], [at, 1, null]);
    }
    for (let at = start; at < end; at += 4) {
      accesses.push([at, 4, 0xffffffff], [at, 4, null], [at, 4, 0], [at, 4, null]);
    }
  }
  accesses.push([sizeBytes, 1, null]);
  return accesses;
}

/** Makes the same accesses on the engine, over registers with the guest's values and writable bits. */
export function answersOfEngine(guest: ConfigAnswers, accesses: readonly Access[]): Answers {
  const [ones, zeros, opened] = [guest.ones, guest.zeros, guest.opened].map((hex) => Buffer.from(hex, 'hex'));
  const config = new ConfigSpace(opened.length > 256 ? 4096 : 256);
  for (const [at, byte] of opened.entries()) {
    config.set(at, 1, byte);
    config.allow(at, 1, at < 0x40 ? 0 : ones[at] & ~zeros[at]);
  }
  const fn = new PciFunction({
    name: 'engine',
    config,
    bars: [null, null, null, null, null, null],
    vpd: Vpd.named(VPD_NAME, VPD_WRITABLE_BYTES),
  });
  const root = new Port('root', 'root', null);
  root.functions.push(fn);
  new Fabric({ vendorId: 0x8086, deviceId: 0x29c0, cpuVendor: 'amd', cpuFamily: 0x17, busOffset: 0 }, [root]);
  const vdev = new VfioPciCoreDevice(fn, { profile: PROFILES['linux-7.3'] });
  runner.run(vdev.open());
  return accesses.map(([offset, size, value]) => {
    const bytes = Buffer.alloc(size);
    try {
      if (value === null) {
        runner.run(vdev.read(VFIO_PCI_CONFIG_REGION_INDEX, offset, bytes));
        return bytes.readUIntLE(0, size);
      }
      bytes.writeUIntLE(value, 0, size);
      runner.run(vdev.write(VFIO_PCI_CONFIG_REGION_INDEX, offset, bytes));
      return null;
    } catch (error) {
      if (error instanceof Errno) return error.code;
      throw error;
    }
  });
}
