/**
 * A driver of virtio devices: it sets the device up by its registers, and sends requests in chains of two buffers. The
 * device reaches the driver's memory at addresses from `base` on.
 */
import { viewOf } from '../abi/layout.ts';
import { PCI_CAP_ID_VNDR } from '../abi/pci_regs.ts';
import {
  VIRTIO_CONFIG_S_ACKNOWLEDGE,
  VIRTIO_CONFIG_S_DRIVER,
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FEATURES_OK,
  VRING_DESC_F_NEXT,
  VRING_DESC_F_WRITE,
  VRING_USED_RING_OFFSET,
  vring_avail,
  vring_desc,
  vring_used_elem,
} from '../abi/virtio.ts';
import * as pci from '../abi/virtio_pci.ts';
import type { InterruptSink } from '../pci/function.ts';
import type { Memory } from '../pci/memory.ts';
import { Cell } from '../task/cell.ts';
import type { Task } from '../task/op.ts';
import { spawnBeside } from '../task/runner.ts';

/** The room of a queue: rings, then slots for requests and their responses. */
const DESCRIPTORS = 0;
const AVAILABLE = 0x1000;
const USED = 0x2000;
const SLOTS = 0x3000;
const SLOT_BYTES = 0x1000;
const RESPONSE_OFFSET = 0x800;
const SLOT_COUNT = 8;
export const QUEUE_BYTES = SLOTS + SLOT_COUNT * SLOT_BYTES;

const CONFIG = pci.virtio_pci_common_cfg.fields;
type ConfigName = keyof typeof CONFIG;

/** The parts of a function that the driver uses: a PciFunction of this process, or one that a client reaches. */
export interface VirtioFunction {
  readonly config: {
    read(offset: number, size: 1 | 2 | 4): number;
    capabilities(): Iterable<{ readonly id: number; readonly offset: number; readonly extended: boolean }>;
  };
  /** The registers of each BAR. */
  readonly bars: readonly ({ readonly target: DriverMemory } | null)[];
  /** The driver's end of the function's interrupts. */
  interrupts: InterruptSink | null;
}

/** Memory that the driver reads and writes. */
export type DriverMemory = Pick<Memory, 'read' | 'write'>;

/** A request that the device has not answered. */
interface Pending {
  readonly done: Cell<boolean>;
  written: number;
}

interface DriverQueue {
  readonly at: number;
  readonly size: number;
  readonly pending: (Pending | null)[];
  available: number;
  used: number;
}

export class VirtioDriver {
  readonly fn: VirtioFunction;
  readonly queues: DriverQueue[] = [];
  readonly memory: DriverMemory;
  private readonly base: number;
  private readonly bar: number;
  private readonly notify: number;
  private readonly common: number;

  /** `memory` is what the device finds at `base`, with QUEUE_BYTES for each queue. */
  constructor(fn: VirtioFunction, memory: DriverMemory, base: number) {
    this.fn = fn;
    this.memory = memory;
    this.base = base;
    const places = structuresOf(fn);
    this.bar = places.get(pci.VIRTIO_PCI_CAP_COMMON_CFG)!.bar;
    this.common = places.get(pci.VIRTIO_PCI_CAP_COMMON_CFG)!.offset;
    this.notify = places.get(pci.VIRTIO_PCI_CAP_NOTIFY_CFG)!.offset;
  }

  /** Takes these features, sets all queues up, and lets the device run. Returns whether it took the features. */
  start(features: readonly number[]): boolean {
    this.set('device_status', VIRTIO_CONFIG_S_ACKNOWLEDGE);
    this.set('device_status', VIRTIO_CONFIG_S_DRIVER);
    for (const select of [0, 1]) {
      const bits = features.filter((bit) => Math.floor(bit / 32) === select);
      this.set('guest_feature_select', select);
      this.set(
        'guest_feature',
        bits.reduce((word, bit) => word + 2 ** (bit % 32), 0),
      );
    }
    this.set('device_status', VIRTIO_CONFIG_S_FEATURES_OK);
    if ((this.get('device_status') & VIRTIO_CONFIG_S_FEATURES_OK) === 0) return false;
    this.queues.length = 0;
    for (let i = 0; i < this.get('num_queues'); i++) this.setUpQueue(i);
    this.set('device_status', VIRTIO_CONFIG_S_DRIVER_OK);
    return true;
  }

  get(name: ConfigName): number {
    const bytes = Buffer.alloc(4);
    const { offset, size } = CONFIG[name];
    this.fn.bars[this.bar]!.target.read(this.common + offset, bytes.subarray(0, size));
    return bytes.readUInt32LE();
  }

  set(name: ConfigName, value: number): void {
    const bytes = Buffer.alloc(4);
    const { offset, size } = CONFIG[name];
    bytes.writeUInt32LE(value);
    this.fn.bars[this.bar]!.target.write(this.common + offset, bytes.subarray(0, size));
  }

  /** Rings the doorbell of a queue. */
  kick(queue: number): void {
    this.fn.bars[this.bar]!.target.write(this.notify + queue * 4, Uint8Array.of(queue, 0));
  }

  /** Sends a request, and waits for the response, of which it has room for `mostBytes`. The device ends this wait. */
  *call(queue: number, request: Uint8Array, mostBytes: number): Task<Uint8Array> {
    const { pending, at } = this.queues[queue];
    const slot = pending.indexOf(null);
    if (slot < 0) throw new Error('too many requests at once');
    const waiting: Pending = { done: new Cell(`answer of queue ${queue}`, false), written: 0 };
    pending[slot] = waiting;
    const place = at + SLOTS + slot * SLOT_BYTES;
    this.memory.write(place, request);
    this.describe(queue, 2 * slot, place, request.length, mostBytes > 0 ? VRING_DESC_F_NEXT : 0);
    if (mostBytes > 0) this.describe(queue, 2 * slot + 1, place + RESPONSE_OFFSET, mostBytes, VRING_DESC_F_WRITE);
    this.offer(queue, 2 * slot);
    this.kick(queue);
    yield* waiting.done.waitUntil((isDone) => isDone);
    const response = new Uint8Array(waiting.written);
    this.memory.read(place + RESPONSE_OFFSET, response);
    pending[slot] = null;
    return response;
  }

  /** Writes a descriptor. */
  describe(queue: number, index: number, offset: number, len: number, flags: number, next = index + 1): void {
    const bytes = vring_desc.encode({ addr: this.base + offset, len, flags, next });
    this.memory.write(this.queues[queue].at + DESCRIPTORS + index * vring_desc.sizeof, bytes);
  }

  /** Makes a chain available. */
  offer(queue: number, head: number): void {
    const own = this.queues[queue];
    this.writeWord(own.at + AVAILABLE + vring_avail.sizeof + 2 * (own.available % own.size), head);
    own.available = (own.available + 1) & 0xffff;
    this.writeWord(own.at + AVAILABLE + vring_avail.fields.idx.offset, own.available);
  }

  /** Call it for an interrupt of a queue: takes the chains that the device has given back. */
  onInterrupt(queue: number): void {
    for (const { id, len } of this.takeUsed(queue)) {
      const pending = this.queues[queue].pending[id >> 1];
      if (pending === null || pending === undefined) throw new Error(`chain ${id} comes back twice`);
      pending.written = len;
      spawnBeside(`interrupt of queue ${queue}`, pending.done.store(true));
    }
  }

  /** The chains that the device has given back since the last call. */
  takeUsed(queue: number): { id: number; len: number }[] {
    const own = this.queues[queue];
    const taken: { id: number; len: number }[] = [];
    const end = this.readWord(own.at + USED + vring_avail.fields.idx.offset);
    while (own.used !== end) {
      const bytes = new Uint8Array(vring_used_elem.sizeof);
      this.memory.read(own.at + USED + VRING_USED_RING_OFFSET + bytes.length * (own.used % own.size), bytes);
      taken.push(vring_used_elem.read(viewOf(bytes)));
      own.used = (own.used + 1) & 0xffff;
    }
    // used_event, where it was negotiated: the next interrupt comes with the next chain.
    this.writeWord(own.at + AVAILABLE + vring_avail.sizeof + 2 * own.size, own.used);
    return taken;
  }

  /** Vector 0 is for changes of the configuration, and each queue has one of its own. */
  private setUpQueue(index: number): void {
    const at = index * QUEUE_BYTES;
    this.memory.write(at, new Uint8Array(SLOTS));
    this.set('queue_select', index);
    this.set('queue_msix_vector', index + 1);
    this.set('queue_desc_lo', this.base + at + DESCRIPTORS);
    this.set('queue_avail_lo', this.base + at + AVAILABLE);
    this.set('queue_used_lo', this.base + at + USED);
    this.set('queue_enable', 1);
    const pending = Array.from({ length: SLOT_COUNT }, () => null);
    this.queues.push({ at, size: this.get('queue_size'), pending, available: 0, used: 0 });
  }

  private readWord(offset: number): number {
    const bytes = Buffer.alloc(2);
    this.memory.read(offset, bytes);
    return bytes.readUInt16LE();
  }

  private writeWord(offset: number, value: number): void {
    this.memory.write(offset, Uint8Array.of(value & 0xff, value >> 8));
  }
}

/** Finds the structures of a virtio device by its vendor capabilities. */
function structuresOf({ config }: VirtioFunction): Map<number, { bar: number; offset: number }> {
  const places = new Map<number, { bar: number; offset: number }>();
  for (const { id, offset, extended } of config.capabilities()) {
    if (extended || id !== PCI_CAP_ID_VNDR) continue;
    const { fields } = pci.virtio_pci_cap;
    const bar = config.read(offset + fields.bar.offset, 1);
    places.set(config.read(offset + fields.cfg_type.offset, 1), {
      bar,
      offset: config.read(offset + fields.offset.offset, 4),
    });
  }
  return places;
}
