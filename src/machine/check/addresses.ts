/** Checks that the BARs of all devices get addresses: below 4 GiB, above, and among the I/O ports. */
import { IOAT_BAR_BYTES } from '../../device/ioat/ioat.ts';
import { VIRTIO_BARS } from '../../device/virtio/virtio-pci.ts';
import { BAR_WINDOWS, placeBars } from '../../pci/bar-windows.ts';
import type { DeviceDescription, MachineDescription } from '../schema.ts';
import { sizeText } from '../size-text.ts';
import type { Problem } from '../yaml.ts';

export function findAddressProblem({ devices }: MachineDescription): Problem | null {
  const bars = devices.flatMap((device, i) => barsOf(device).map((bar, j) => ({ ...bar, i, j })));
  const unplaced = placeBars(bars).find(({ address }) => address === null);
  if (unplaced === undefined) return null;
  const { kind, i, j } = unplaced.bar;
  const { start, end, name } = BAR_WINDOWS[kind];
  const total = bars.filter((bar) => bar.kind === kind).reduce((sum, bar) => sum + bar.sizeBytes, 0);
  const room = `the machine's ${kind} BARs have ${sizeText(total)}, and ${name} has room for ${sizeText(end - start)}`;
  return { path: ['devices', i, 'bars', j, 'size'], message: `${room}: this one finds no address` };
}

function barsOf(device: DeviceDescription): { kind: 'mem32' | 'mem64' | 'io'; sizeBytes: number }[] {
  if (device.model === 'ioat') return [{ kind: 'mem64', sizeBytes: IOAT_BAR_BYTES }];
  if (device.model === 'virtio-gpu') return [...VIRTIO_BARS];
  return device.bars.map(({ kind, size }) => ({ kind, sizeBytes: size }));
}
