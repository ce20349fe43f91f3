/** The interface of a device model: it makes the BARs of a function, and serves them. */
import type { Bar } from '../pci/bar.ts';
import type { CapabilitySpec } from '../pci/capabilities.ts';
import type { PciFunction } from '../pci/function.ts';
import type { MemoryProvider } from '../pci/memory.ts';
import type { Screen } from './screen.ts';

export interface DeviceIdentity {
  vendorId: number;
  deviceId: number;
  /** 24 bits. */
  classCode: number;
  revision: number;
  /** 0 by default. */
  subsystemVendorId?: number;
  subsystemId?: number;
}

/** A device before it is a function: its registers, BARs and capabilities. */
export interface DeviceModel {
  readonly identity: DeviceIdentity;
  readonly capabilities: CapabilitySpec;
  /** What the device shows, if it shows anything. */
  readonly screen?: Screen | undefined;
  /**
   * Makes the BARs in six slots, each in the slot of its index. Empty slots and the upper halves of 64-bit BARs are
   * null. Other shapes give EINVAL when the function is made.
   */
  bars(memory: MemoryProvider): (Bar | null)[];
  /** Called once, when the function exists and before it is plugged in. */
  bind?(fn: PciFunction): void;
}
