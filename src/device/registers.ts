/** Declared registers: the place and width of each, and the effect of a write. */

/**
 * `read-write`: keeps the written value. `write-1-to-clear`: written ones clear bits. `command`: a write is acted on
 * and never kept. `read-only`: writes are lost.
 */
export type RegisterAccess = 'read-only' | 'read-write' | 'write-1-to-clear' | 'command';

export interface RegisterSpec {
  readonly offset: number;
  readonly bytes: 1 | 2 | 4 | 8;
  readonly access: RegisterAccess;
}

export type RegisterMap = Readonly<Record<string, RegisterSpec>>;

/** A write of one register, or of a part of it. */
export interface RegisterPart<Name> {
  readonly name: Name;
  /** Where the part begins in the register, and the written bytes. */
  readonly at: number;
  readonly bytes: Uint8Array;
}

export class RegisterFile<M extends RegisterMap> {
  /** The bytes that a read returns; 0 where there are no registers. */
  readonly bytes: Uint8Array;
  private readonly map: M;
  private readonly order: readonly (keyof M)[];
  private readonly view: DataView;

  /** Throws for a map with registers that overlap, are not aligned, or leave `sizeBytes`. */
  constructor(map: M, sizeBytes: number) {
    this.map = map;
    this.bytes = new Uint8Array(sizeBytes);
    this.view = new DataView(this.bytes.buffer);
    this.order = Object.keys(map).sort((a, b) => map[a].offset - map[b].offset);
    let end = 0;
    for (const name of this.order) {
      const { offset, bytes } = map[name];
      if (offset < end || offset % bytes !== 0 || offset + bytes > sizeBytes) {
        throw new Error(`register ${String(name)} at ${offset}: overlaps, is not aligned, or ends past ${sizeBytes}`);
      }
      end = offset + bytes;
    }
  }

  /** Returns a register of up to 32 bits. */
  get(name: keyof M): number {
    const { offset, bytes } = this.map[name];
    if (bytes === 1) return this.view.getUint8(offset);
    return bytes === 2 ? this.view.getUint16(offset, true) : this.view.getUint32(offset, true);
  }

  set(name: keyof M, value: number): void {
    const { offset, bytes } = this.map[name];
    if (bytes === 1) this.view.setUint8(offset, value);
    else if (bytes === 2) this.view.setUint16(offset, value, true);
    else this.view.setUint32(offset, value >>> 0, true);
  }

  /** Returns a register of 64 bits. */
  get64(name: keyof M): bigint {
    return this.view.getBigUint64(this.map[name].offset, true);
  }

  set64(name: keyof M, value: bigint): void {
    this.view.setBigUint64(this.map[name].offset, value, true);
  }

  read(offset: number, into: Uint8Array): void {
    into.set(this.bytes.subarray(offset, offset + into.length));
  }

  /** Cuts a write at the registers that it touches, lowest first. Changes each and calls `onWrite` for it. */
  write(offset: number, from: Uint8Array, onWrite: (part: RegisterPart<keyof M>) => void): void {
    for (const name of this.order) {
      const register = this.map[name];
      const start = Math.max(offset, register.offset);
      const end = Math.min(offset + from.length, register.offset + register.bytes);
      if (start >= end || register.access === 'read-only') continue;
      const bytes = from.subarray(start - offset, end - offset);
      if (register.access === 'read-write') this.bytes.set(bytes, start);
      else if (register.access === 'write-1-to-clear') {
        for (const [i, byte] of bytes.entries()) this.bytes[start + i] &= ~byte;
      }
      onWrite({ name, at: start - register.offset, bytes });
    }
  }
}
