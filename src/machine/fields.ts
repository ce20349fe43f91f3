/** The kinds of fields in machine files. Sizes are numbers of bytes, or text such as `64M`. */
import * as z from 'zod';

/**
 * The name of a machine or device is part of a socket's path. A path has 107 bytes at most (unix(7)): the folder
 * /run/user/UID/barter-UID-MACHINE, a slash, and DEVICE.sock.
 */
const MAX_NAME = 32;
const UNITS: Record<string, number> = { K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 };
/** 64 TiB: half of the memory that a process on x86-64 can map. */
const MAX_BAR_BYTES = 2 ** 46;

export const name = z
  .string()
  .regex(/^[A-Za-z][\w.-]*$/, 'a name starts with a letter and has letters, digits, . _ -')
  .max(MAX_NAME, `a name has ${MAX_NAME} characters at most, since a socket's path has 107 bytes`);

export const u8 = integer(0, 0xff);
export const u16 = integer(0, 0xffff);
export const u24 = integer(0, 0xffffff);

export function integer(min: number, max: number) {
  const error = `a whole number from ${min} to ${max < 0x100 ? max : `0x${max.toString(16)}`} is needed`;
  return z
    .number({ error: missingOr(error) })
    .int(error)
    .min(min, error)
    .max(max, error);
}

const SIZE = 'a size is a power of two: a number of bytes, or text such as 4K, 64M, 8G';
export const size = z
  .union([z.number({ error: SIZE }).positive(SIZE), z.string().regex(/^\d+[KMGT]?$/, SIZE)], { error: missingOr(SIZE) })
  .transform((value) => {
    if (typeof value === 'number') return value;
    const unit = UNITS[value.at(-1)!];
    return unit === undefined ? Number(value) : Number(value.slice(0, -1)) * unit;
  })
  .refine((value) => Number.isInteger(Math.log2(value)), SIZE)
  .refine((value) => value <= MAX_BAR_BYTES, 'a BAR has 64T at most');

/** Keeps zod's own message for a missing field, and returns `reason` for a field of the wrong kind. */
export function missingOr(reason: string): (issue: { input?: unknown }) => string | undefined {
  return ({ input }) => (input === undefined ? undefined : reason);
}
