/** The copy that a descriptor of the I/OAT engine asks for. */
import { IOAT_CHANERR_READ_DATA_ERR, IOAT_CHANERR_WRITE_DATA_ERR } from '../../abi/ioat.ts';
import type { CopyOutcome } from '../../pci/dma.ts';
import type { PciFunction } from '../../pci/function.ts';
import type { Task } from '../../task/op.ts';
import { condResched } from '../../task/runner.ts';
import type { Descriptor } from './descriptor.ts';

/** Bytes per request where a copy has to pass a buffer; a revoke waits for at most one. */
const CHUNK_BYTES = 64 * 1024;
/** Others run after so many bytes, or after so many descriptors: some ten microseconds. */
const TURN_BYTES = 256 * 1024;
const TURN_DESCRIPTORS = 16;

/** Does the copies of one task of a channel. */
export class DescriptorCopier {
  private readonly fn: PciFunction;
  /** Whether the task may go on: asked between pieces, after a step at which another task could have run. */
  private readonly goesOn: () => Task<boolean>;
  private scratch = new Uint8Array(0);
  private turnBytes = 0;
  private turnDescriptors = 0;

  constructor(fn: PciFunction, goesOn: () => Task<boolean>) {
    this.fn = fn;
    this.goesOn = goesOn;
  }

  /** Copies what it can without a step that another task could see; returns how many bytes that was. */
  copyNow({ source, destination, sizeBytes }: Descriptor): number {
    const moved = sizeBytes === 0 ? 0 : this.fn.dmaCopyNow(source, destination, sizeBytes);
    this.turnBytes += moved;
    return moved;
  }

  /**
   * Copies from byte `start` on; returns bits of CHANERR. Ends early, with part of it copied, once `goesOn` says no.
   * The caller asks again when it returns.
   */
  *copy({ source, destination, sizeBytes }: Descriptor, start: number): Task<number> {
    for (let at = start; at < sizeBytes; ) {
      let outcome: CopyOutcome = this.fn.dmaCopyNow(source + at, destination + at, sizeBytes - at);
      const isNow = outcome > 0;
      if (!isNow) outcome = yield* this.copyPiece(source + at, destination + at, sizeBytes - at);
      if (outcome === 'read-failed') return IOAT_CHANERR_READ_DATA_ERR;
      if (outcome === 'write-failed') return IOAT_CHANERR_WRITE_DATA_ERR;
      at += outcome;
      this.turnBytes += outcome;
      if (at === sizeBytes) return 0;
      if (isNow && this.turnBytes < TURN_BYTES) continue;
      if (this.turnBytes >= TURN_BYTES) yield* this.giveWay();
      if (!(yield* this.goesOn())) return 0;
    }
    return 0;
  }

  /** A descriptor is done; true where it has been long enough since others ran. */
  endDescriptor(): boolean {
    this.turnDescriptors += 1;
    return this.turnBytes >= TURN_BYTES || this.turnDescriptors >= TURN_DESCRIPTORS;
  }

  *giveWay(): Task {
    this.turnBytes = 0;
    this.turnDescriptors = 0;
    yield* condResched();
  }

  /** As much as there is in one piece; by way of a buffer where both ends are BARs, or one is reached by messages. */
  private *copyPiece(source: number, destination: number, length: number): Task<CopyOutcome> {
    const outcome = yield* this.fn.dmaCopy(source, destination, length);
    if (outcome !== 0) return outcome;
    const bytes = Math.min(CHUNK_BYTES, length);
    if (this.scratch.length < bytes) this.scratch = new Uint8Array(bytes);
    const part = this.scratch.subarray(0, bytes);
    if ((yield* this.fn.dmaRead(source, part)) !== 'ok') return 'read-failed';
    if (!(yield* this.goesOn())) return part.length;
    return (yield* this.fn.dmaWrite(destination, part)) === 'ok' ? part.length : 'write-failed';
  }
}
