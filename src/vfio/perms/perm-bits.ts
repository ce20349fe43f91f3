/**
 * The rules for one capability's bytes (struct perm_bits of vfio_pci_config.c): its length, the bits that come from the
 * user's copy, the bits that may be written, and the side effects of a write.
 */
import type { PciFunction } from '../../pci/function.ts';
import type { RegisterWrite } from '../../pci/register-write.ts';
import { DONE, type Task } from '../../task/op.ts';
import type { PowerWrite } from '../pm.ts';

/** Every bit of a field of up to four bytes. */
export const ALL = 0xffffffff;

/** The registers of a capability as the hardware shows them, by their offsets in it. */
export interface CapabilityRegisters {
  read(offset: number, size: 1 | 2 | 4): number;
}

/** Declares fields of a capability, by their offsets in it. */
export interface Declare {
  /**
   * The `virt` bits of a field of `bytes` bytes come from the user's copy, the others from the hardware; the `writable`
   * bits may be written; a write goes to the place that the bit comes from.
   */
  field(offset: number, bytes: 1 | 2 | 4, virt: number, writable: number): void;
  /** Clears bits of the user's copy when the device is opened. */
  clear(offset: number, bytes: 1 | 2 | 4, bits: number): void;
}

/** The device behind the registers, as write functions use it. */
export interface ConfigDevice {
  readonly pdev: PciFunction;
  readonly interrupts: {
    /** SET_IRQS has enabled MSI. Config space cannot. */
    readonly isMsiActive: boolean;
    /** The vectors that MSI was last enabled with, as a power of two. */
    readonly msiQmax: number;
  };
  setPowerState(write: PowerWrite): Task;
  functionLevelReset(): Task;
}

/** Config space as its user sees it: the copy, and access to the hardware. */
export interface UserConfig {
  readonly vdev: ConfigDevice;
  getCopy(offset: number, size: 1 | 2 | 4): number;
  setCopy(offset: number, size: 1 | 2 | 4, value: number): void;
  /** The bits of a write that go to the hardware, and their values there. */
  hardwareBits(write: RegisterWrite): { mask: number; value: number };
  /** Writes each writable bit to the place that it comes from: the copy or the hardware. */
  writeDefault(write: RegisterWrite): Task;
}

/**
 * Takes a write within the capability that starts at `start`. Ends after everything that the write orders has happened.
 */
export type WriteFunction = (config: UserConfig, write: RegisterWrite, start: number) => Task;

/** How vfio treats one capability. */
export interface CapabilityRule {
  /** Bytes from the capability's start. A capability of no bytes is hidden. */
  readonly length: number | ((registers: CapabilityRegisters) => number);
  /** Declares the fields that are not read-only registers of the hardware. The list's header is already declared. */
  readonly declare?: (declare: Declare, registers: CapabilityRegisters) => void;
  /** `writeDefault` if left out. */
  readonly write?: WriteFunction;
}

/** For vendor-specific registers: every write goes to the hardware, the header included. */
export const writeRaw: WriteFunction = (config, { offset, size, value }) =>
  config.vdev.pdev.configWrite(offset, size, value);

/** For capabilities that users can see but not change. */
export const writeNothing: WriteFunction = () => DONE;
