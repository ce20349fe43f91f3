/** A machine for readers: its devices, and which of them reach each other. */
import type { PciFunction } from '../pci/function.ts';
import { mapType } from '../pci/p2pdma.ts';
import { resetMethods } from '../pci/reset.ts';
import type { Machine } from './build.ts';
import { capabilityName } from './capability-names.ts';

export interface DeviceView {
  name: string;
  /** The address that the fabric assigned. */
  bdf: string;
  model: string;
  vendor: number;
  device: number;
  /** 24 bits. */
  classCode: number;
  iommuGroup: number;
  bars: { index: number; kind: string; prefetchable: boolean; sizeBytes: number; address: number }[];
  capabilities: { id: number; name: string; extended: boolean; offset: number }[];
  resetMethods: string[];
}

/** How DMA of the column's device reaches the memory of the row's device. */
export interface PeerView {
  /** As pci_p2pdma_map_type: by bus address, through the host bridge, or not at all. */
  type: 'bus-addr' | 'thru-host-bridge' | 'not-supported';
  /** Links on the way. */
  distance: number;
}

export interface MachineView {
  machine: string;
  description: string;
  devices: DeviceView[];
  /** [provider][client], in the order of `devices`. */
  p2p: PeerView[][];
}

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
