/** One function that a user has opened, with registers that a test chooses. */
import { PCI_STATUS, PCI_STATUS_CAP_LIST } from '../../src/abi/pci_regs.ts';
import { FdTable } from '../../src/dma-buf/file.ts';
import type { Bar } from '../../src/pci/bar.ts';
import { ConfigSpace } from '../../src/pci/config-space.ts';
import { Fabric, type HostBridge } from '../../src/pci/fabric.ts';
import { type FunctionSpec, PciFunction } from '../../src/pci/function.ts';
import { Port } from '../../src/pci/port.ts';
import type { Task } from '../../src/task/op.ts';
import { runner } from '../../src/task/runner.ts';
import { VfioPciCoreDevice } from '../../src/vfio/core.ts';
import { PROFILES, type Profile } from '../../src/vfio/profile.ts';
import type { Caller, EventSignal } from '../../src/vfio/user.ts';

export const HOST: HostBridge = {
  vendorId: 0x8086,
  deviceId: 0x29c0,
  cpuVendor: 'amd',
  cpuFamily: 0x17,
  busOffset: 0,
};

/** A capability and its place. `registers` are values of 4 bytes by their offsets in it. */
export interface Placed {
  id: number;
  at: number;
  registers?: Record<number, number>;
}

/** Config space with two lists of capabilities in the given order. Every bit of it is writable. */
export function configOf(standard: readonly Placed[], extended: readonly Placed[] = []): ConfigSpace {
  const config = new ConfigSpace(4096);
  if (standard.length > 0) config.set(PCI_STATUS, 2, PCI_STATUS_CAP_LIST);
  const fill = ({ at, registers = {} }: Placed): void => {
    for (const [offset, value] of Object.entries(registers)) config.set(at + Number(offset), 4, value);
  };
  let pointer = 0x34;
  for (const placed of standard) {
    fill(placed);
    config.set(pointer, 1, placed.at);
    config.set(placed.at, 1, placed.id);
    config.set(placed.at + 1, 1, 0);
    pointer = placed.at + 1;
  }
  for (const [i, placed] of extended.entries()) {
    fill(placed);
    config.set(placed.at, 4, (((extended[i + 1]?.at ?? 0) << 20) | 0x10000 | placed.id) >>> 0);
  }
  for (let at = 0x40; at < config.sizeBytes; at += 4) config.allow(at, 4, 0xffffffff);
  return config;
}

/** An eventfd that counts. */
export class Counting implements EventSignal {
  count = 0;
  released = 0;

  signal(): void {
    this.count += 1;
  }

  release(): void {
    this.released += 1;
  }
}

/** A caller whose descriptors from 100 on are the given events. */
export function callerWith(events: readonly Counting[]): Caller & { sources: (() => Task)[] } {
  const sources: (() => Task)[] = [];
  return {
    files: new FdTable(),
    sources,
    eventSignal: (fd) => events[fd - 100],
    eventSource: (_fd, onSignal) => {
      sources.push(onSignal);
      return { release: () => {} };
    },
  };
}

export interface Rig {
  readonly fn: PciFunction;
  readonly vdev: VfioPciCoreDevice;
  /** Reads a value as the user sees it. */
  read(offset: number, size: 1 | 2 | 4): number;
  write(offset: number, size: 1 | 2 | 4, value: number): void;
}

/** Plugs the function into its own root port and opens it. */
export function opened(
  config: ConfigSpace,
  spec: Partial<FunctionSpec> & { bars?: (Bar | null)[] } = {},
  profile: Profile = PROFILES['linux-7.3'],
): Rig {
  const fn = new PciFunction({ name: 'device', config, bars: [null, null, null, null, null, null], ...spec });
  const port = new Port('root', 'root', null);
  port.functions.push(fn);
  new Fabric(HOST, [port]);
  const vdev = new VfioPciCoreDevice(fn, { profile });
  runner.run(vdev.open());
  return {
    fn,
    vdev,
    read: (offset, size) => {
      const into = Buffer.alloc(size);
      runner.run(vdev.read(7, offset, into));
      return into.readUIntLE(0, size);
    },
    write: (offset, size, value) => {
      const from = Buffer.alloc(size);
      from.writeUIntLE(value, 0, size);
      runner.run(vdev.write(7, offset, from));
    },
  };
}
