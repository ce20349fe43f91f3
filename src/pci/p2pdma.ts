/** The route of peer-to-peer DMA between two functions (pci_p2pdma_map_type, drivers/pci/p2pdma.c). */
import type { HostBridge } from './fabric.ts';
import type { PciFunction } from './function.ts';
import type { Port } from './port.ts';

export interface P2pRoute {
  type: 'bus-addr' | 'thru-host-bridge' | 'not-supported';
  /** Links between the two; 0 for one function. */
  distance: number;
  /** For bus-addr: the offset from a host address to a bus address. */
  busOffset: number;
}

/** Host bridges known to route between their root ports (pci_p2pdma_whitelist). */
const ALLOWED_HOST_BRIDGES: { vendorId: number; deviceId: number | null }[] = [
  { vendorId: 0x8086, deviceId: 0x3c00 },
  { vendorId: 0x8086, deviceId: 0x3c01 },
  { vendorId: 0x8086, deviceId: 0x2f00 },
  { vendorId: 0x8086, deviceId: 0x2f01 },
  { vendorId: 0x8086, deviceId: 0x2030 },
  { vendorId: 0x8086, deviceId: 0x2031 },
  { vendorId: 0x8086, deviceId: 0x2032 },
  { vendorId: 0x8086, deviceId: 0x2033 },
  { vendorId: 0x8086, deviceId: 0x2020 },
  { vendorId: 0x8086, deviceId: 0x09a2 },
  { vendorId: 0x1ae0, deviceId: null },
  { vendorId: 0x10de, deviceId: 0x2f95 },
  { vendorId: 0x10de, deviceId: 0x2f96 },
  { vendorId: 0x10de, deviceId: 0x2f97 },
  { vendorId: 0x10de, deviceId: 0x2f98 },
];

/** The route of DMA by `client` to memory of `provider`. Both are plugged into one fabric. */
export function mapType(provider: PciFunction, client: PciFunction): P2pRoute {
  const busOffset = provider.fabric!.hostBridge.busOffset;
  if (provider === client) return { type: 'bus-addr', distance: 0, busOffset };
  const up = [...provider.parent!.path()];
  const down = [...client.parent!.path()];
  const common = up.find((port) => down.includes(port));
  const redirects = (ports: Port[]): boolean => ports.some((port) => port.redirects);
  if (common !== undefined) {
    const distance = up.indexOf(common) + down.indexOf(common) + 2;
    const path = [...up.slice(0, up.indexOf(common) + 1), ...down.slice(0, down.indexOf(common))];
    if (!redirects(path)) return { type: 'bus-addr', distance, busOffset };
    return throughHostBridge(provider.fabric!.hostBridge, distance);
  }
  return throughHostBridge(provider.fabric!.hostBridge, up.length + down.length + 2);
}

function throughHostBridge(bridge: HostBridge, distance: number): P2pRoute {
  const isNewAmd = bridge.cpuVendor === 'amd' && bridge.cpuFamily >= 0x17;
  const listed = ALLOWED_HOST_BRIDGES.some(
    (known) => known.vendorId === bridge.vendorId && (known.deviceId ?? bridge.deviceId) === bridge.deviceId,
  );
  return { type: isNewAmd || listed ? 'thru-host-bridge' : 'not-supported', distance, busOffset: 0 };
}
