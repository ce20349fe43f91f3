/** A function that was captured from a real device: its config space as it was, and BARs of plain bytes. */
import { PCI_BASE_ADDRESS_0, PCI_COMMAND, PCI_INTERRUPT_LINE, PCI_ROM_ADDRESS } from '../abi/pci_regs.ts';
import { Bar, MemoryTarget } from '../pci/bar.ts';
import { ConfigSpace } from '../pci/config-space.ts';
import { PciFunction } from '../pci/function.ts';
import type { MemoryProvider } from '../pci/memory.ts';
import { allowCapabilities } from './captured-masks.ts';
import type { DeviceDescription } from './schema.ts';

/** Bytes of `config` in the description: hexadecimal, blanks and newlines between. */
export function parseConfigText(text: string): Uint8Array {
  const digits = text.replace(/\s+/g, '');
  if (digits.length % 2 !== 0 || /[^0-9a-fA-F]/.test(digits))
    throw new Error('config wants pairs of hexadecimal digits');
  return Buffer.from(digits, 'hex');
}

export function capturedFunction(
  device: Extract<DeviceDescription, { model: 'captured' }>,
  memory: MemoryProvider,
  physfn: PciFunction | null = null,
): PciFunction {
  const bytes = parseConfigText(device.config);
  const config = new ConfigSpace(bytes.length > 256 ? 4096 : 256);
  for (const [i, byte] of bytes.entries()) config.set(i, 1, byte);
  // The device is captured in use; served, it starts as after reset.
  config.set(PCI_COMMAND, 2, 0);
  config.set(PCI_INTERRUPT_LINE, 1, 0);
  for (let i = 0; i < 6; i++) config.set(PCI_BASE_ADDRESS_0 + 4 * i, 4, 0);
  config.set(PCI_ROM_ADDRESS, 4, 0);
  allowCapabilities(config);
  const bars: (Bar | null)[] = [null, null, null, null, null, null];
  for (const { index, kind, prefetchable, size } of device.bars) {
    const target = new MemoryTarget(memory(`${device.name}.bar${index}`, size));
    bars[index] = new Bar(index, kind, prefetchable, size, target);
  }
  return new PciFunction({ name: device.name, config, bars, romSizeBytes: device.romSize ?? 0, physfn });
}
