/** Carries out the copy of an I/OAT descriptor. */
import { IOAT_CHANERR_READ_DATA_ERR, IOAT_CHANERR_WRITE_DATA_ERR } from '../../abi/ioat.ts';
import type { CopyOutcome } from '../../pci/dma.ts';
import type { PciFunction } from '../../pci/function.ts';
import type { Task } from '../../task/op.ts';
import { condResched } from '../../task/runner.ts';
import type { Descriptor } from './descriptor.ts';

/** Bytes per request where a copy must pass through a buffer. A revoke waits for one request at most. */
const CHUNK_BYTES = 64 * 1024;
/** Other tasks run after this many bytes, or this many descriptors: some ten microseconds. */
const TURN_BYTES = 256 * 1024;
const TURN_DESCRIPTORS = 16;

/** Does the copies of one task of a channel. */
export class DescriptorCopier {
  private readonly fn: PciFunction;
  /** Whether the task may go on. Called between pieces, after a step at which another task could have run. */
  private readonly goesOn: () => Task<boolean>;
  private scratch = new Uint8Array(0);
  private turnBytes = 0;
  private turnDescriptors = 0;

  constructor(fn: PciFunction, goesOn: () => Task<boolean>) {
    this.fn = fn;
    this.goesOn = goesOn;
  }

  /** Copies the bytes that need no step visible to another task; returns their number. */
  copyNow({ source, destination, sizeBytes }: Descriptor): number {
    const moved = sizeBytes === 0 ? 0 : this.fn.dmaCopyNow(source, destination, sizeBytes);
    this.turnBytes += moved;
    return moved;
  }

  /**
   * Copies from byte `start` on; returns bits of CHANERR. Ends early, with part of it copied, once `goesOn` returns
   * false. The caller must ask `goesOn` again afterwards.
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

  /** Counts a finished descriptor; true when other tasks should run now. */
  endDescriptor(): boolean {
    this.turnDescriptors += 1;
    return this.turnBytes >= TURN_BYTES || this.turnDescriptors >= TURN_DESCRIPTORS;
  }

  *giveWay(): Task {
    this.turnBytes = 0;
    this.turnDescriptors = 0;
    yield* condResched();
  }

  /**
   * Copies the largest contiguous piece. Uses a buffer where both ends are BARs, or messages alone reach one of them.
   */
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
