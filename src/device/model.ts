/** The interface of a device model: it makes the BARs of a function, and serves them. */
import type { Bar } from '../pci/bar.ts';
import type { CapabilitySpec } from '../pci/capabilities.ts';
import type { PciFunction } from '../pci/function.ts';
import type { MemoryProvider } from '../pci/memory.ts';
import type { Screen } from './screen.ts';

/** The ids of a device in the header of its config space. */
export interface DeviceIdentity {
  /** 16 bits. */
  vendorId: number;
  /** 16 bits. */
  deviceId: number;
  /** 24 bits. */
  classCode: number;
  /** 8 bits. */
  revision: number;
  /** 0 by default. */
  subsystemVendorId?: number;
  /** 0 by default. */
  subsystemId?: number;
}

/** A device before it is a function: its registers, BARs and capabilities. */
export interface DeviceModel {
  /** The ids in the header of config space. */
  readonly identity: DeviceIdentity;
  /** The capabilities in config space. */
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
