/** DMA of a virtio device to its driver's rings and buffers. */
import type { DmaStatus } from '../../pci/dma.ts';
import type { PciFunction } from '../../pci/function.ts';
import type { Task } from '../../task/op.ts';

/** An access to the driver's memory failed. */
export class DmaError extends Error {
  readonly status: DmaStatus;

  constructor(status: DmaStatus, message: string) {
    super(message);
    this.name = 'DmaError';
    this.status = status;
  }
}

/** The device was reset under a task. The task ends, and leaves no trace. */
export class ResetError extends Error {}

/** The DMA of one task. Each access first asks whether the task may go on. */
export class DeviceDma {
  private readonly fn: PciFunction;
  private readonly goesOn: () => boolean;

  /** `goesOn` is asked in the step after `registersLook`, and returns false once the device was reset. */
  constructor(fn: PciFunction, goesOn: () => boolean) {
    this.fn = fn;
    this.goesOn = goesOn;
  }

  /** `what` is for the DmaError. */
  *read(address: number, into: Uint8Array, what: string): Task {
    const status = this.fn.dmaReadNow(address, into) ?? (yield* this.slow(address, into, false));
    if (status !== 'ok') throw new DmaError(status, `reading ${what} at 0x${address.toString(16)}: ${status}`);
  }

  *write(address: number, from: Uint8Array, what: string): Task {
    const status = this.fn.dmaWriteNow(address, from) ?? (yield* this.slow(address, from, true));
    if (status !== 'ok') throw new DmaError(status, `writing ${what} at 0x${address.toString(16)}: ${status}`);
  }

  /** Throws ResetError if the device was reset. */
  *check(): Task {
    yield* this.fn.registersLook();
    if (!this.goesOn()) throw new ResetError();
  }

  /** An access with steps that other tasks can see, or that wait for a message. */
  private *slow(address: number, bytes: Uint8Array, isWrite: boolean): Task<DmaStatus> {
    const status = yield* isWrite ? this.fn.dmaWrite(address, bytes) : this.fn.dmaRead(address, bytes);
    yield* this.check();
    return status;
  }
}
