/** The expected rule of a capability, and the check of the real rule against it. */
import assert from 'node:assert/strict';
import { configOf, opened, type Placed } from '../rig.ts';

const ALL = 0xffffffff;

/** A field: offset, length in bytes, the bits in the user's copy, and the writable bits. */
export type Field = [offset: number, bytes: number, virt: number, writable: number];

export interface Expected {
  name: string;
  id: number;
  /** Registers of 4 bytes by offset, if the rule depends on them. */
  registers?: Record<number, number>;
  length: number;
  fields?: Field[];
  /** The hardware decides over every byte, including the header. */
  raw?: true;
  /** If writes have side effects: the user's and the hardware's bytes, by offset, after ones are written. */
  afterOnes?: Record<number, { user?: number; hardware?: number }>;
}

const STANDARD_AT = 0x50;
const STANDARD_TAIL: Placed = { id: 0x02, at: 0xe0 };
const EXTENDED_AT = 0x140;
const EXTENDED_HEAD: Placed = { id: 0x03, at: 0x100 };
const EXTENDED_TAIL: Placed = { id: 0x18, at: 0x400 };

function rigOf({ id, registers }: Expected, extended: boolean) {
  if (!extended) return opened(configOf([{ id, at: STANDARD_AT, ...(registers && { registers }) }, STANDARD_TAIL]));
  const placed = { id, at: EXTENDED_AT, ...(registers && { registers }) };
  return opened(configOf([STANDARD_TAIL], [EXTENDED_HEAD, placed, EXTENDED_TAIL]));
}

/** Writes ones and zeros over a capability and the 8 bytes after it, and checks each byte from both sides. */
export function checkRule(expected: Expected, extended: boolean): void {
  const { name, length, fields = [], raw = false, afterOnes = {} } = expected;
  const at = extended ? EXTENDED_AT : STANDARD_AT;
  const { fn, read, write } = rigOf(expected, extended);
  const header: Field[] = raw ? [] : extended ? [[0, 4, ALL, 0]] : [[1, 1, ALL, 0]];
  const virt = new Uint8Array(length + 8);
  const writable = new Uint8Array(length + 8);
  if (raw) writable.fill(0xff, 0, length);
  // After the capability come bytes that belong to the hardware.
  writable.fill(0xff, length);
  for (const [offset, bytes, v, w] of [...header, ...fields]) {
    for (let i = 0; i < bytes; i++) {
      virt[offset + i] = (v >>> (8 * i)) & 0xff;
      writable[offset + i] = (w >>> (8 * i)) & 0xff;
    }
  }
  const user = (): number[] => Array.from({ length: length + 8 }, (_, i) => read(at + i, 1));
  const hardware = (): number[] => Array.from({ length: length + 8 }, (_, i) => fn.config.read(at + i, 1));
  const before = { user: user(), hardware: hardware() };
  for (let i = 0; i < length + 8; i += 4) write(at + i, 4, ALL);
  const set = { user: user(), hardware: hardware() };
  for (let i = 0; i < length + 8; i++) {
    const label = `${name}, byte ${i} after ones`;
    const toHardware = writable[i] & ~virt[i];
    const hardwareNow = afterOnes[i]?.hardware ?? before.hardware[i] | toHardware;
    assert.equal(set.hardware[i], hardwareNow, `${label}, hardware`);
    const isHeader = raw && (extended ? i < 4 : i < 2);
    const seen = isHeader
      ? before.user[i]
      : (before.user[i] & virt[i]) | (writable[i] & virt[i]) | (hardwareNow & ~virt[i]);
    if (!(isHeader && !extended && i === 0)) assert.equal(set.user[i], afterOnes[i]?.user ?? seen, `${label}, user`);
  }
}

/** The capability is in neither list, and its bytes belong to the hardware. */
export function checkHidden(id: number, extended: boolean): void {
  const { read } = rigOf({ name: '', id, length: 0 }, extended);
  const label = `${extended ? 'extended ' : ''}capability 0x${id.toString(16)}`;
  if (extended) assert.equal(read(EXTENDED_HEAD.at, 4) >>> 20, EXTENDED_TAIL.at, label);
  else assert.equal(read(0x34, 1), STANDARD_TAIL.at, label);
}
