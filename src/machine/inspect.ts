/** A machine for readers: its devices, and which of them reach each other. */
import type { PciFunction } from '../pci/function.ts';
import { mapType } from '../pci/p2pdma.ts';
import { resetMethods } from '../pci/reset.ts';
import type { Machine } from './build.ts';
import { capabilityName } from './capability-names.ts';

/** A BAR of a device. */
export interface BarView {
  /** 0 to 5. */
  index: number;
  /** `mem32`, `mem64` or `io`. */
  kind: string;
  /** Whether reads have no side effects. */
  prefetchable: boolean;
  /** The size in bytes. */
  sizeBytes: number;
  /** The host address that the fabric assigned. */
  address: number;
}

/** A capability in the config space of a device. */
export interface CapabilityView {
  /** PCI_CAP_ID_* or PCI_EXT_CAP_ID_*. */
  id: number;
  /** The name of the capability. */
  name: string;
  /** Whether it is in extended config space, from 0x100 on. */
  extended: boolean;
  /** Where it is in config space. */
  offset: number;
}

/** A device as `barter inspect` shows it. */
export interface DeviceView {
  /** The name in the machine. */
  name: string;
  /** The address that the fabric assigned. */
  bdf: string;
  /** The model in the machine file. */
  model: string;
  /** Vendor id, 16 bits. */
  vendor: number;
  /** Device id, 16 bits. */
  device: number;
  /** 24 bits. */
  classCode: number;
  /** The number of its IOMMU group. */
  iommuGroup: number;
  /** The BARs, by index. */
  bars: BarView[];
  /** The capabilities of config space in the order of the list. */
  capabilities: CapabilityView[];
  /** The ways to reset it, as sysfs's reset_method names them. */
  resetMethods: string[];
}

/** How DMA of the column's device reaches the memory of the row's device. */
export interface PeerView {
  /** As pci_p2pdma_map_type: by bus address, through the host bridge, or not at all. */
  type: 'bus-addr' | 'thru-host-bridge' | 'not-supported';
  /** Links on the way. */
  distance: number;
}

/** A machine as `barter inspect --json` prints it. */
export interface MachineView {
  /** The name of the machine. */
  machine: string;
  /** The sentence for readers. */
  description: string;
  /** The devices in the order of the description. */
  devices: DeviceView[];
  /** [provider][client], in the order of `devices`. */
  p2p: PeerView[][];
}

/** Returns plain data about the devices of a machine and the routes between them. */
export function inspectMachine({ description, functions }: Machine): MachineView {
  const all = [...functions];
  return {
    machine: description.machine,
    description: description.description,
    devices: all.map(([name, fn], i) => viewOf(name, fn, description.devices[i].model)),
    p2p: all.map(([, provider]) =>
      all.map(([, client]) => {
        const { type, distance } = mapType(provider, client);
        return { type, distance };
      }),
    ),
  };
}

function viewOf(name: string, fn: PciFunction, model: string): DeviceView {
  return {
    name,
    bdf: fn.bdf,
    model,
    vendor: fn.vendorId,
    device: fn.deviceId,
    classCode: fn.classCode,
    iommuGroup: fn.iommuGroup,
    bars: fn.bars.flatMap((bar) => {
      if (bar === null) return [];
      const { index, kind, prefetchable, sizeBytes, address } = bar;
      return [{ index, kind, prefetchable, sizeBytes, address }];
    }),
    capabilities: fn.config.capabilities().map((capability) => ({
      ...capability,
      name: capabilityName(capability.id, capability.extended),
    })),
    resetMethods: resetMethods(fn),
  };
}
