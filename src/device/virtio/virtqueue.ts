/** A split virtqueue (virtio 1.3, 2.7), from the device's side. */
import { VRING_AVAIL_F_NO_INTERRUPT, VRING_USED_RING_OFFSET, vring_avail, vring_used_elem } from '../../abi/virtio.ts';
import type { Task } from '../../task/op.ts';
import { type Chain, readChain, VirtqueueError } from './chain.ts';
import type { DeviceDma } from './dma.ts';

/** The driver's choices for a queue. */
export interface VirtqueueLayout {
  readonly size: number;
  readonly descriptors: number;
  readonly available: number;
  readonly used: number;
  readonly allowsIndirect: boolean;
  readonly hasEventIndex: boolean;
}

const AVAIL_RING_OFFSET = vring_avail.sizeof;
const USED_ENTRY_BYTES = vring_used_elem.sizeof;
const INDEX_MASK = 0xffff;

/** Takes chains in the order in which the driver made them available, and gives each back once. */
export class Virtqueue {
  private readonly layout: VirtqueueLayout;
  private nextAvailable = 0;
  private usedIndex = 0;
  private readonly word = new Uint8Array(2);
  private readonly element = new Uint8Array(USED_ENTRY_BYTES);

  constructor(layout: VirtqueueLayout) {
    this.layout = layout;
  }

  /** Returns the next chain. Null if there is none: then the driver notifies the device of the next one. */
  *take(dma: DeviceDma): Task<Chain | null> {
    const { layout } = this;
    if (!(yield* this.hasNext(dma))) {
      if (!layout.hasEventIndex) return null;
      yield* this.writeWord(
        dma,
        layout.used + VRING_USED_RING_OFFSET + layout.size * USED_ENTRY_BYTES,
        this.nextAvailable,
      );
      // The driver may have added a chain before it could see that index.
      fullFence();
      if (!(yield* this.hasNext(dma))) return null;
    }
    const slot = this.nextAvailable % layout.size;
    const head = yield* this.readWord(dma, layout.available + AVAIL_RING_OFFSET + 2 * slot);
    this.nextAvailable = (this.nextAvailable + 1) & INDEX_MASK;
    const table = { address: layout.descriptors, count: layout.size };
    return yield* readChain(dma, table, head, layout.allowsIndirect);
  }

  /** Gives a chain back with the number of bytes written to it. Returns whether the driver wants an interrupt. */
  *give(dma: DeviceDma, { head }: Chain, written: number): Task<boolean> {
    const { layout } = this;
    vring_used_elem.write(new DataView(this.element.buffer), 0, { id: head, len: written });
    const slot = this.usedIndex % layout.size;
    yield* dma.write(layout.used + VRING_USED_RING_OFFSET + slot * USED_ENTRY_BYTES, this.element, 'a used element');
    const before = this.usedIndex;
    this.usedIndex = (before + 1) & INDEX_MASK;
    yield* this.writeWord(dma, layout.used + vring_avail.fields.idx.offset, this.usedIndex);
    // The driver must see the index before the device looks whether it wants to be told.
    fullFence();
    if (!layout.hasEventIndex) {
      return ((yield* this.readWord(dma, layout.available)) & VRING_AVAIL_F_NO_INTERRUPT) === 0;
    }
    const event = yield* this.readWord(dma, layout.available + AVAIL_RING_OFFSET + 2 * layout.size);
    return event === before;
  }

  private *hasNext(dma: DeviceDma): Task<boolean> {
    const { size, available } = this.layout;
    const index = yield* this.readWord(dma, available + vring_avail.fields.idx.offset);
    const waiting = (index - this.nextAvailable) & INDEX_MASK;
    if (waiting > size) throw new VirtqueueError(`${waiting} chains are available in a queue of ${size}`);
    return waiting > 0;
  }

  private *readWord(dma: DeviceDma, address: number): Task<number> {
    yield* dma.read(address, this.word, 'a ring');
    return this.word[0] | (this.word[1] << 8);
  }

  private *writeWord(dma: DeviceDma, address: number, value: number): Task {
    this.word[0] = value & 0xff;
    this.word[1] = value >>> 8;
    yield* dma.write(address, this.word, 'a ring');
  }
}

const FENCE = new Int32Array(new SharedArrayBuffer(4));

/** Orders the stores before it against the loads after it: the driver runs on another CPU. */
function fullFence(): void {
  Atomics.add(FENCE, 0, 1);
}
