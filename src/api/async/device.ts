/** A device that a user has open, as promises. */
import { O_CLOEXEC, O_RDWR } from '../../abi/fcntl.ts';
import { PCI_COMMAND, PCI_COMMAND_MASTER } from '../../abi/pci_regs.ts';
import type { Step, StepIn } from '../../scenario/step.ts';
import { ExportedBuffer } from './buffer.ts';
import type { Operations } from './operations.ts';

/** A slice of a region, in bytes. Both are multiples of the page size. */
export interface SliceOfRegion {
  /** Where the slice starts in the region, in bytes. */
  offset: number;
  /** The length of the slice in bytes, more than 0. */
  length: number;
}

/** Options of `UserDevice.exportDmaBuf`. */
export interface ExportOptions {
  /** A memory BAR, 0 to 5. Default 0. */
  region?: number;
  /** For open(2): an access mode, O_CLOEXEC, O_NONBLOCK. */
  openFlags?: number;
}

/** The result of VFIO_DEVICE_GET_REGION_INFO. */
export interface RegionShape {
  /** VFIO_REGION_INFO_FLAG_*. */
  flags: number;
  /** Bytes of the region; 0 where the device has none. */
  sizeBytes: number;
}

/** How many bytes one access of config space has. */
export type AccessSize = 1 | 2 | 4;

/** A device in the hands of a user of vfio. Every method rejects with vfio's Errno. */
export class UserDevice {
  /** The name of the device in its machine. */
  readonly name: string;
  private readonly operations: Operations;

  /** @internal Made by `OpenMachine.open`. */
  constructor(operations: Operations, name: string) {
    this.operations = operations;
    this.name = name;
    operations.track(this);
  }

  /**
   * Lends ranges of a memory BAR as a dma-buf (VFIO_DEVICE_FEATURE_DMA_BUF). Without ranges: all of the BAR. The
   * buffer's size is the sum of the ranges. The buffer starts revoked if memory is disabled.
   */
  async exportDmaBuf(ranges: readonly SliceOfRegion[] = [], options: ExportOptions = {}): Promise<ExportedBuffer> {
    const { operations, name: device } = this;
    const { region = 0, openFlags = O_RDWR | O_CLOEXEC } = options;
    const slices = ranges.length > 0 ? ranges : [{ offset: 0, length: (await this.regionInfo(region)).sizeBytes }];
    const as = operations.newName('dma-buf');
    const pairs = slices.map(({ offset, length }): [number, number] => [offset, length]);
    await operations.perform({ op: 'export', device, region, ranges: pairs, openFlags, as });
    return new ExportedBuffer(
      operations,
      as,
      slices.reduce((sum, { length }) => sum + length, 0),
    );
  }

  /** Sets or clears the memory bit of COMMAND. Clearing it revokes; setting it restores. */
  setMemory(on: boolean): Promise<void> {
    return this.take({ op: 'memory', on });
  }

  /** Lets the device do DMA: PCI_COMMAND_MASTER of COMMAND. A borrower needs it. */
  async setBusMaster(on: boolean): Promise<void> {
    const command = await this.readConfig(PCI_COMMAND, 2);
    await this.writeConfig(PCI_COMMAND, 2, on ? command | PCI_COMMAND_MASTER : command & ~PCI_COMMAND_MASTER);
  }

  /** Writes the power state into PMCSR: 0 for D0 to 3 for D3hot. Leaving D0 revokes; D0 restores. */
  setPowerState(state: 0 | 1 | 2 | 3): Promise<void> {
    return this.take({ op: 'power', state });
  }

  /** Function level reset by PCI Express's Device Control: revokes, resets, restores. */
  flr(): Promise<void> {
    return this.take({ op: 'flr' });
  }

  /** VFIO_DEVICE_RESET: revokes, resets, restores. */
  reset(): Promise<void> {
    return this.take({ op: 'reset' });
  }

  /** VFIO_DEVICE_PCI_HOT_RESET with every group that is open. */
  hotReset(): Promise<void> {
    return this.take({ op: 'hot-reset' });
  }

  /** VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY: revokes until `exitLowPower`. */
  enterLowPower(): Promise<void> {
    return this.take({ op: 'low-power-entry' });
  }

  /** VFIO_DEVICE_FEATURE_LOW_POWER_EXIT: restores what `enterLowPower` revoked, if memory is enabled. */
  exitLowPower(): Promise<void> {
    return this.take({ op: 'low-power-exit' });
  }

  /** Reads 1, 2 or 4 bytes of config space, little-endian. */
  async readConfig(offset: number, size: AccessSize): Promise<number> {
    return (await this.operations.perform({ op: 'config-read', device: this.name, offset, size })) as number;
  }

  /** Writes 1, 2 or 4 bytes of config space, little-endian. A write of COMMAND or PMCSR may revoke or restore. */
  writeConfig(offset: number, size: AccessSize, value: number): Promise<void> {
    return this.take({ op: 'config-write', offset, size, value });
  }

  /** VFIO_DEVICE_GET_REGION_INFO of a VFIO_PCI_..._REGION_INDEX. EINVAL for an index that vfio-pci does not have. */
  async regionInfo(region: number): Promise<RegionShape> {
    return (await this.operations.perform({ op: 'region-info', device: this.name, region })) as RegionShape;
  }

  /** EIO while memory is disabled. */
  async readRegion(region: number, offset: number, length: number): Promise<Uint8Array> {
    const step = { op: 'region-read', device: this.name, region, offset, length } as const;
    return Buffer.from((await this.operations.perform(step)) as string, 'hex');
  }

  /** EIO while memory is disabled. */
  writeRegion(region: number, offset: number, bytes: Uint8Array): Promise<void> {
    return this.take({ op: 'region-write', region, offset, bytes: Buffer.from(bytes).toString('hex') });
  }

  /** Closes the device. Its buffers are revoked for good. */
  async close(): Promise<void> {
    this.operations.forget(this);
    await this.take({ op: 'close' });
  }

  /** Names the device in the report of what was not released. */
  describe(): string {
    return `device ${this.name}`;
  }

  /** As `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  private async take(step: StepWithoutDevice): Promise<void> {
    await this.operations.perform({ ...step, device: this.name } as Step);
  }
}

/** A step without its device, which is this one. */
type WithoutDevice<S> = S extends { device: string } ? Omit<S, 'device'> : never;
type StepWithoutDevice = WithoutDevice<StepIn<'device'>>;
