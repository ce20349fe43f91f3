import { Errno } from './errno.ts';
import { checkU64Number, joinU64, U64_MAX } from './u64.ts';

/**
 * Struct layouts as data. Each field is declared with its offset. Loading checks the declaration (gaps, overlaps,
 * natural alignment, total size), so that an error shows before any byte is exchanged. Accessors read and write a
 * DataView at a base offset and allocate nothing. Everything is little-endian: the ABIs here are host-endian, and every
 * machine that Barter runs on (x86-64, arm64) is little-endian.
 */
abstract class Field {
  /** `struct.field`, for messages; set when the struct is declared. */
  path = '';
  readonly offset: number;
  readonly size: number;
  readonly align: number;

  constructor(offset: number, size: number, align: number) {
    this.offset = offset;
    this.size = size;
    this.align = align;
  }
}

export class U8Field extends Field {
  get(view: DataView, base = 0): number {
    return view.getUint8(base + this.offset);
  }
  set(view: DataView, base: number, value: number): void {
    view.setUint8(base + this.offset, value);
  }
}

export class U16Field extends Field {
  get(view: DataView, base = 0): number {
    return view.getUint16(base + this.offset, true);
  }
  set(view: DataView, base: number, value: number): void {
    view.setUint16(base + this.offset, value, true);
  }
}

export class U32Field extends Field {
  get(view: DataView, base = 0): number {
    return view.getUint32(base + this.offset, true);
  }
  set(view: DataView, base: number, value: number): void {
    view.setUint32(base + this.offset, value, true);
  }
}

export class S32Field extends Field {
  get(view: DataView, base = 0): number {
    return view.getInt32(base + this.offset, true);
  }
  set(view: DataView, base: number, value: number): void {
    view.setInt32(base + this.offset, value, true);
  }
}

export class U64Field extends Field {
  /** The value as a number. Throws EOVERFLOW above 2^53 - 1 (see u64.ts). */
  get(view: DataView, base = 0): number {
    const at = base + this.offset;
    return joinU64(view.getUint32(at, true), view.getUint32(at + 4, true), this.path);
  }
  /** All 64 bits. */
  getBig(view: DataView, base = 0): bigint {
    return view.getBigUint64(base + this.offset, true);
  }
  set(view: DataView, base: number, value: number | bigint): void {
    const at = base + this.offset;
    if (typeof value === 'bigint') {
      if (value < 0n || value > U64_MAX) {
        throw new Errno('EINVAL', `${this.path} = ${value} is not an unsigned 64-bit value`);
      }
      view.setBigUint64(at, value, true);
      return;
    }
    checkU64Number(value, this.path);
    view.setUint32(at, value, true); // takes the low 32 bits
    view.setUint32(at + 4, value > 0xffff_ffff ? value / 0x1_0000_0000 : 0, true);
  }
}

export class S64Field extends Field {
  get(view: DataView, base = 0): number {
    return Number(view.getBigInt64(base + this.offset, true));
  }
  set(view: DataView, base: number, value: number): void {
    view.setBigInt64(base + this.offset, BigInt(value), true);
  }
}

/** A fixed array of bytes; `get` gives a view of them, not a copy. */
export class BytesField extends Field {
  get(view: DataView, base = 0): Uint8Array {
    return new Uint8Array(view.buffer, view.byteOffset + base + this.offset, this.size);
  }
  set(view: DataView, base: number, value: Uint8Array): void {
    if (value.length > this.size) {
      throw new Errno('EINVAL', `${this.path} holds ${this.size} bytes, not ${value.length}`);
    }
    const target = this.get(view, base);
    target.fill(0);
    target.set(value);
  }
}

export type AnyField = U8Field | U16Field | U32Field | S32Field | U64Field | S64Field | BytesField;
export type Fields = Record<string, AnyField>;

export const u8 = (offset: number) => new U8Field(offset, 1, 1);
export const u16 = (offset: number) => new U16Field(offset, 2, 2);
export const u32 = (offset: number) => new U32Field(offset, 4, 4);
export const s32 = (offset: number) => new S32Field(offset, 4, 4);
export const u64 = (offset: number) => new U64Field(offset, 8, 8);
export const s64 = (offset: number) => new S64Field(offset, 8, 8);
export const bytes = (offset: number, size: number) => new BytesField(offset, size, 1);

export type ValueOf<F> = F extends BytesField ? Uint8Array : number;
export type SettableOf<F> = F extends BytesField ? Uint8Array : F extends U64Field ? number | bigint : number;

/**
 * A declared struct. `sizeof` equals C's sizeof. A trailing flexible array is not a field and starts at `sizeof`. If C
 * pads the struct, it starts at the end of the last field, and the declaration names that offset.
 */
export class Struct<F extends Fields> {
  readonly name: string;
  readonly sizeof: number;
  readonly fields: Readonly<F>;
  readonly packed: boolean;

  constructor(name: string, sizeof: number, fields: F, packed: boolean) {
    this.name = name;
    this.sizeof = sizeof;
    this.fields = fields;
    this.packed = packed;
    this.#check();
  }

  /** All fields as a plain object; u64 fields as checked numbers. Not for hot paths: read single fields there. */
  read(view: DataView, base = 0): { [K in keyof F]: ValueOf<F[K]> } {
    const out: Record<string, number | Uint8Array> = {};
    for (const [key, field] of Object.entries(this.fields)) out[key] = field.get(view, base);
    return out as { [K in keyof F]: ValueOf<F[K]> };
  }

  /** Writes the fields that `values` names and leaves the others as they are. */
  write(view: DataView, base: number, values: { [K in keyof F]?: SettableOf<F[K]> }): void {
    for (const [key, value] of Object.entries(values)) {
      const field = this.fields[key];
      if (field === undefined) throw new Errno('EINVAL', `struct ${this.name} has no field ${key}`);
      (field.set as (v: DataView, b: number, x: unknown) => void).call(field, view, base, value);
    }
  }

  /** A new zeroed buffer of `sizeof + extraBytes` with `values` written; the extra bytes hold a flexible array. */
  encode(values: { [K in keyof F]?: SettableOf<F[K]> }, extraBytes = 0): Buffer {
    const buffer = Buffer.alloc(this.sizeof + extraBytes);
    this.write(viewOf(buffer), 0, values);
    return buffer;
  }

  #check(): void {
    let end = 0;
    let align = 1;
    for (const [key, field] of Object.entries(this.fields)) {
      field.path = `${this.name}.${key}`;
      if (field.offset !== end) {
        throw new Error(`layout: ${field.path} is declared at ${field.offset}, the field before it ends at ${end}`);
      }
      if (!this.packed && field.offset % field.align !== 0) {
        throw new Error(`layout: ${field.path} at ${field.offset} is not aligned to ${field.align}`);
      }
      align = Math.max(align, field.align);
      end = field.offset + field.size;
    }
    if (end !== this.sizeof) throw new Error(`layout: struct ${this.name} ends at ${end}, declared ${this.sizeof}`);
    if (!this.packed && end % align !== 0) {
      throw new Error(`layout: struct ${this.name} of ${end} bytes lacks its tail padding to ${align}: declare it`);
    }
  }
}

/** Declares a C struct; padding is a declared field. Throws at load if the offsets or the size are wrong. */
export function struct<F extends Fields>(name: string, sizeof: number, fields: F): Struct<F> {
  return new Struct(name, sizeof, fields, false);
}

/** As `struct`, for a declaration that is packed and may be unaligned. */
export function packedStruct<F extends Fields>(name: string, sizeof: number, fields: F): Struct<F> {
  return new Struct(name, sizeof, fields, true);
}

/** A DataView over the same bytes as a Buffer or Uint8Array. Make it once, next to the buffer. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
