/**
 * What a user may see and do with the bytes of one capability (struct perm_bits of vfio_pci_config.c): its length,
 * which bits come from the user's copy, which of them may be written, and what else a write does.
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
   * bits may be written, to the place that they come from.
   */
  field(offset: number, bytes: 1 | 2 | 4, virt: number, writable: number): void;
  /** Clears bits of the user's copy when the device is opened. */
  clear(offset: number, bytes: 1 | 2 | 4, bits: number): void;
}

/** What a write function may use of the device behind the registers. */
export interface ConfigDevice {
  readonly pdev: PciFunction;
  readonly interrupts: {
    /** MSI was enabled by SET_IRQS, and not by config space. */
    readonly isMsiActive: boolean;
    /** The vectors that MSI was last enabled with, as a power of two. */
    readonly msiQmax: number;
  };
  setPowerState(write: PowerWrite): Task;
  functionLevelReset(): Task;
}

/** Config space as its user sees it: the copy, and the way to the hardware. */
export interface UserConfig {
  readonly vdev: ConfigDevice;
  getCopy(offset: number, size: 1 | 2 | 4): number;
  setCopy(offset: number, size: 1 | 2 | 4, value: number): void;
  /** The bits of a write that go to the hardware, and their values there. */
  hardwareBits(write: RegisterWrite): { mask: number; value: number };
  /** Writable bits go where they come from: to the copy, or to the hardware. */
  writeDefault(write: RegisterWrite): Task;
}

/** Takes a write within the capability that starts at `start`. What it orders has happened when the task ends. */
export type WriteFunction = (config: UserConfig, write: RegisterWrite, start: number) => Task;

/** How vfio treats one capability. */
export interface CapabilityRule {
  /** Bytes from the capability's start. A capability of no bytes is hidden. */
  readonly length: number | ((registers: CapabilityRegisters) => number);
  /** Declares the fields that are not read-only registers of the hardware; the list's header is declared for all. */
  readonly declare?: (declare: Declare, registers: CapabilityRegisters) => void;
  /** `writeDefault` where it is left out. */
  readonly write?: WriteFunction;
}

/** The registers of somebody's own invention: the hardware decides what a write does, the header included. */
export const writeRaw: WriteFunction = (config, { offset, size, value }) =>
  config.vdev.pdev.configWrite(offset, size, value);

/** A place that users see and cannot change. */
export const writeNothing: WriteFunction = () => DONE;
