/** A function captured from a real device: its config space as after a reset, and BARs of plain bytes. */
import {
  PCI_BASE_ADDRESS_0,
  PCI_BIST,
  PCI_CACHE_LINE_SIZE,
  PCI_COMMAND,
  PCI_DEVICE_ID,
  PCI_INTERRUPT_LINE,
  PCI_LATENCY_TIMER,
  PCI_ROM_ADDRESS,
  PCI_STATUS,
  PCI_VENDOR_ID,
} from '../abi/pci_regs.ts';
import { Bar, MemoryTarget } from '../pci/bar.ts';
import { ConfigSpace } from '../pci/config-space.ts';
import { PciFunction } from '../pci/function.ts';
import type { MemoryProvider } from '../pci/memory.ts';
import { Vpd } from '../pci/vpd.ts';
import { CapturedConfig } from './captured-config.ts';
import { parseConfigText } from './config-text.ts';
import { EXTENDED_REGISTERS } from './registers/extended.ts';
import type { Register } from './registers/register.ts';
import { STANDARD_REGISTERS } from './registers/standard.ts';
import type { DeviceDescription } from './schema.ts';

/** The bits of STATUS that stay: all but pending errors and the pending interrupt. */
const STATUS_AT_RESET = 0x06f7;
const BIST_CAPABLE = 0x80;

export function capturedFunction(
  device: Extract<DeviceDescription, { model: 'captured' }>,
  memory: MemoryProvider,
  physfn: PciFunction | null = null,
): PciFunction {
  const captured = new CapturedConfig(parseConfigText(device.config));
  const config = new ConfigSpace(captured.bytes.length === 256 ? 256 : 4096);
  for (let at = 0; at < captured.bytes.length; at += 4) config.set(at, 4, captured.read(at, 4));
  // A virtual function's own ids read as ones (SR-IOV 1.1, 3.4.1.1); its physical function has the real ones.
  config.set(PCI_VENDOR_ID, 2, physfn !== null ? 0xffff : (device.vendor ?? captured.read(PCI_VENDOR_ID, 2)));
  config.set(PCI_DEVICE_ID, 2, physfn !== null ? 0xffff : (device.device ?? captured.read(PCI_DEVICE_ID, 2)));
  resetHeader(config);
  for (const { id, extended, offset, end } of captured.capabilities()) {
    const registers = (extended ? EXTENDED_REGISTERS : STANDARD_REGISTERS).get(id)?.(offset, captured.read) ?? [];
    for (const register of registers) {
      // A register that would lie in the next capability is absent in this device.
      if (offset + register.offset + register.size <= end) resetRegister(config, offset, register);
    }
  }
  const bars: (Bar | null)[] = [null, null, null, null, null, null];
  for (const { index, kind, prefetchable, size } of device.bars) {
    const target = new MemoryTarget(memory(`${device.name}.bar${index}`, size));
    bars[index] = new Bar(index, kind, prefetchable, size, target);
  }
  const data = device.vpd === undefined ? {} : { vpd: new Vpd(parseConfigText(device.vpd)) };
  return new PciFunction({ name: device.name, config, bars, romSizeBytes: device.romSize ?? 0, physfn, ...data });
}

/** Resets the header. The device was captured in use, and must start as after a reset. */
function resetHeader(config: ConfigSpace): void {
  config.set(PCI_COMMAND, 2, 0);
  config.set(PCI_STATUS, 2, config.read(PCI_STATUS, 2) & STATUS_AT_RESET);
  for (const register of [PCI_CACHE_LINE_SIZE, PCI_LATENCY_TIMER, PCI_INTERRUPT_LINE]) config.set(register, 1, 0);
  config.set(PCI_BIST, 1, config.read(PCI_BIST, 1) & BIST_CAPABLE);
  for (let i = 0; i < 6; i++) config.set(PCI_BASE_ADDRESS_0 + 4 * i, 4, 0);
  config.set(PCI_ROM_ADDRESS, 4, 0);
}

/** Makes the register's bits writable, and clears the bits that a reset clears. */
function resetRegister(config: ConfigSpace, capability: number, register: Register): void {
  const { offset, size, writable = 0, clearable = 0, status = 0, reset = 0 } = register;
  const at = capability + offset;
  config.allow(at, size, writable, clearable);
  const captured = config.read(at, size);
  const kept = captured & ~(writable | clearable | status);
  const initial = (reset === 'kept' ? captured : reset) & writable;
  config.set(at, size, (kept | initial) >>> 0);
}
