/**
 * A device's state as a stream of sections, each with a head of {u32 type, u32 bytes}, little-endian:
 *
 * | type | section | holds |
 * |---|---|---|
 * | 1 | HEADER | magic, version, what kind of device it is; comes first |
 * | 2 | MEMORY | {u32 BAR, u32 0, u64 offset} and bytes of a memory BAR; what no section names is zero |
 * | 3 | DEVICE | {u32 index} and what a device model saved |
 * | 4 | CONFIG | the registers of config space, and behind them the user's view of it |
 * | 5 | END | SHA-256 of everything before; comes last |
 *
 * Clients write mapped BARs directly, so the server does not see which bytes change. PRE_COPY sends the memory once and
 * keeps a digest of each chunk. STOP_COPY sends the chunks whose digest differs.
 */
import { Errno } from '../abi/errno.ts';
import { struct, u16, u32, u64, viewOf } from '../abi/layout.ts';
import type { PciFunction } from '../pci/function.ts';
import type { Memory } from '../pci/memory.ts';
import type { Task } from '../task/op.ts';
import { condResched } from '../task/runner.ts';
import { type MemoryOwner, restoreMemory, revokeMemory } from './lending.ts';
import { beyondLimit } from './limit-hits.ts';

const MAGIC = 0x5452_4142; // "BART"
const VERSION = 1;
const HEADER = 1;
const MEMORY = 2;
const DEVICE = 3;
const CONFIG = 4;
const END = 5;
const CHUNK_BYTES = 64 * 1024;
export const MAX_SECTION_BYTES = 1 << 20;
const DIGEST_BYTES = 32;
const NOTHING = new Uint8Array(0);

const sectionHead = struct('section_head', 8, { type: u32(0), bytes: u32(4) });
const header = struct('migration_header', 64, {
  magic: u32(0),
  version: u32(4),
  vendor: u16(8),
  device: u16(10),
  config_bytes: u32(12),
  bar0: u64(16),
  bar1: u64(24),
  bar2: u64(32),
  bar3: u64(40),
  bar4: u64(48),
  bar5: u64(56),
});
const memoryHead = struct('memory_head', 16, { bar: u32(0), reserved: u32(4), offset: u64(8) });

/** A device whose state can be saved and loaded. */
export interface MigratingDevice extends MemoryOwner {
  /** The user's view of config space. */
  readonly config: { save(): Uint8Array; load(saved: Uint8Array): void; applyIntxDisable(): Task };
}

/** Whether all state behind the function's BARs can be read out: as bytes, or by a model that saves its registers. */
export function isMigratable(pdev: PciFunction): boolean {
  return pdev.bars.every((bar) => bar === null || bar.target.memory !== null || pdev.lifecycle.saves);
}

/** The most bytes that the stream of a stopped device can have. */
export function stateBytes({ pdev }: MigratingDevice): number {
  let bytes = 4 * MAX_SECTION_BYTES;
  for (const { memory } of memoryBars(pdev)) {
    for (const _ of chunks(memory)) bytes += sectionHead.sizeof + memoryHead.sizeof + CHUNK_BYTES;
  }
  return bytes;
}

function memoryBars(pdev: PciFunction): { index: number; memory: Memory }[] {
  return pdev.bars.flatMap((bar) =>
    bar === null || bar.target.memory === null ? [] : [{ index: bar.index, memory: bar.target.memory }],
  );
}

/** The offsets of chunks that may hold other bytes than zeros. */
function* chunks(memory: Memory): Generator<number> {
  let next = 0;
  for (const { offset, sizeBytes } of memory.extents?.() ?? [{ offset: 0, sizeBytes: memory.sizeBytes }]) {
    for (let at = Math.max(next, offset - (offset % CHUNK_BYTES)); at < offset + sizeBytes; at += CHUNK_BYTES) {
      yield at;
      next = at + CHUNK_BYTES;
    }
  }
}

function headerOf({ vendorId, deviceId, config, bars }: PciFunction): Buffer {
  const sizes = Object.fromEntries(bars.map((bar, i) => [`bar${i}`, bar?.sizeBytes ?? 0]));
  return header.encode({
    magic: MAGIC,
    version: VERSION,
    vendor: vendorId,
    device: deviceId,
    config_bytes: config.sizeBytes,
    ...sizes,
  });
}

/** Loads the library with the first migration, as it takes 3 ms of a server's start. */
const sha256 = () => process.getBuiltinModule('node:crypto').createHash('sha256');

function digestOf(bytes: Uint8Array): string {
  return sha256().update(bytes).digest('base64');
}

function isZero(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === 0);
}

/** The stream to read. It sends the memory once before `stop`, and everything else after it. */
export class StateReader {
  private readonly vdev: MigratingDevice;
  private readonly hash = sha256();
  private readonly sections: Generator<Uint8Array | null>;
  /** The digests of the chunks that were sent, by "BAR:offset". */
  private readonly sent = new Map<string, string>();
  private rest: Uint8Array = NOTHING;
  private stopped = false;

  constructor(vdev: MigratingDevice) {
    this.vdev = vdev;
    this.sections = this.produce();
  }

  /** The device is quiesced: data that the stream sends from here on are final. */
  stop(): void {
    this.stopped = true;
  }

  *read(size: number): Task<Uint8Array> {
    const parts: Uint8Array[] = [];
    let length = 0;
    while (length < size) {
      if (this.rest.length === 0) {
        const next = this.sections.next();
        // Null means that there are no data yet; an empty array means that more chunks have to be looked at.
        if (next.done === true || next.value === null) break;
        this.rest = next.value;
        yield* condResched();
      }
      const part = this.rest.subarray(0, size - length);
      this.rest = this.rest.subarray(part.length);
      parts.push(part);
      length += part.length;
    }
    return Buffer.concat(parts);
  }

  private *produce(): Generator<Uint8Array | null> {
    const { pdev } = this.vdev;
    yield this.section(HEADER, headerOf(pdev));
    if (!this.stopped) yield* this.memory();
    while (!this.stopped) yield null;
    yield* this.memory();
    for (const [i, state] of pdev.lifecycle.save()) {
      yield this.section(DEVICE, Buffer.concat([Uint8Array.of(i, 0, 0, 0), state]));
    }
    yield this.section(CONFIG, Buffer.concat([pdev.config.snapshot(), this.vdev.config.save()]));
    const digest = this.hash.copy().digest();
    yield this.section(END, digest);
  }

  /** Every chunk that has changed since it was sent. Skips chunks of zeros that were never sent. */
  private *memory(): Generator<Uint8Array | null> {
    const chunk = new Uint8Array(CHUNK_BYTES);
    for (const { index, memory } of memoryBars(this.vdev.pdev)) {
      const places = new Set(chunks(memory));
      for (const key of this.sent.keys()) {
        const [bar, offset] = key.split(':').map(Number);
        if (bar === index) places.add(offset);
      }
      for (const offset of places) {
        const part = chunk.subarray(0, Math.min(CHUNK_BYTES, memory.sizeBytes - offset));
        memory.read(offset, part);
        yield this.isNews(`${index}:${offset}`, part)
          ? this.section(MEMORY, Buffer.concat([memoryHead.encode({ bar: index, offset }), part]))
          : NOTHING;
      }
    }
  }

  private isNews(key: string, chunk: Uint8Array): boolean {
    const before = this.sent.get(key);
    if (before === undefined && isZero(chunk)) return false;
    const digest = digestOf(chunk);
    if (before === digest) return false;
    this.sent.set(key, digest);
    return true;
  }

  private section(type: number, payload: Uint8Array): Uint8Array {
    const bytes = Buffer.concat([sectionHead.encode({ type, bytes: payload.length }), payload]);
    this.hash.update(bytes);
    return bytes;
  }
}

/**
 * The stream to write, in pieces of any size. Memory takes effect as it arrives, the rest when the stream is complete.
 */
export class StateWriter {
  private readonly vdev: MigratingDevice;
  private readonly hash = sha256();
  private pending: Uint8Array = NOTHING;
  private hasHeader = false;
  private hasEnd = false;
  private config: Uint8Array | null = null;
  private readonly states = new Map<number, Uint8Array>();

  constructor(vdev: MigratingDevice) {
    this.vdev = vdev;
  }

  /**
   * EINVAL for bytes that are not such a stream, or belong to another kind of device. After an error it takes nothing
   * more.
   */
  *write(bytes: Uint8Array): Task {
    if (bytes.length === 0) return;
    if (this.hasEnd) throw new Errno('EINVAL', 'migration data behind their end');
    this.pending = Buffer.concat([this.pending, bytes]);
    while (this.pending.length >= sectionHead.sizeof) {
      const { type, bytes: length } = sectionHead.read(viewOf(this.pending));
      if (length > MAX_SECTION_BYTES) {
        throw beyondLimit('MAX_SECTION_BYTES', 'EINVAL', `a section of ${length} bytes of migration data`);
      }
      const end = sectionHead.sizeof + length;
      if (this.pending.length < end) return;
      const payload = this.pending.slice(sectionHead.sizeof, end);
      if (type === END) this.end(payload, this.pending.length > end);
      else yield* this.section(type, payload);
      this.hash.update(this.pending.subarray(0, end));
      this.pending = this.pending.subarray(end);
      yield* condResched();
    }
  }

  /** Makes the whole stream take effect. EINVAL where it is incomplete or a model does not know its state. */
  *finish(): Task {
    const { vdev } = this;
    if (!this.hasEnd || this.config === null) throw new Errno('EINVAL', 'the migration data are incomplete');
    const registers = this.config.subarray(0, vdev.pdev.config.sizeBytes);
    const view = this.config.subarray(vdev.pdev.config.sizeBytes);
    yield* vdev.memoryLock.write();
    try {
      yield* revokeMemory(vdev, 'migration');
      yield* vdev.pdev.loadRegisters(registers);
      vdev.config.load(view);
      vdev.pdev.lifecycle.load(this.states);
    } finally {
      yield* restoreMemory(vdev);
      yield* vdev.memoryLock.releaseWrite();
    }
    yield* vdev.config.applyIntxDisable();
  }

  private *section(type: number, payload: Uint8Array): Task {
    if (!this.hasHeader) yield* this.header(type, payload);
    else if (type === MEMORY) this.memory(payload);
    else if (type === DEVICE && payload.length >= 4)
      this.states.set(viewOf(payload).getUint32(0, true), payload.slice(4));
    else if (type === CONFIG && payload.length === 2 * this.vdev.pdev.config.sizeBytes) this.config = payload;
    else throw new Errno('EINVAL', `migration data with a section of type ${type} and ${payload.length} bytes`);
    if (this.states.size > this.vdev.pdev.lifecycle.size) throw new Errno('EINVAL', 'more models than the device has');
  }

  /** Checks that the source device is of the same kind. Memory that its stream does not name is zero. */
  private *header(type: number, payload: Uint8Array): Task {
    const { pdev } = this.vdev;
    if (type !== HEADER || !headerOf(pdev).equals(payload)) {
      throw new Errno('EINVAL', `the migration data are not of a device like ${pdev.name}`);
    }
    this.hasHeader = true;
    const zeros = new Uint8Array(CHUNK_BYTES);
    for (const { memory } of memoryBars(pdev)) {
      for (const offset of [...chunks(memory)]) {
        memory.write(offset, zeros.subarray(0, Math.min(CHUNK_BYTES, memory.sizeBytes - offset)));
        yield* condResched();
      }
    }
  }

  private memory(payload: Uint8Array): void {
    if (payload.length < memoryHead.sizeof) throw new Errno('EINVAL', 'migration data: half a head of memory');
    const { bar, offset } = memoryHead.fields;
    const view = viewOf(payload);
    const at = offset.getBig(view);
    const bytes = payload.subarray(memoryHead.sizeof);
    const target = memoryBars(this.vdev.pdev).find(({ index }) => index === bar.get(view));
    if (target === undefined || at + BigInt(bytes.length) > BigInt(target.memory.sizeBytes)) {
      throw new Errno('EINVAL', `migration data: ${bytes.length} bytes at ${at} of BAR ${bar.get(view)}`);
    }
    target.memory.write(Number(at), bytes);
  }

  private end(digest: Uint8Array, hasMore: boolean): void {
    if (digest.length !== DIGEST_BYTES || hasMore || !this.hash.copy().digest().equals(digest)) {
      throw new Errno('EINVAL', 'the migration data are not those that were sent');
    }
    this.hasEnd = true;
  }
}
