/** The fields that steps have in common, and the shape of a step. */
import * as z from 'zod';

export const name = z.string().regex(/^[A-Za-z][\w.-]*$/, 'a name starts with a letter and has letters, digits, . _ -');
export const u8 = z.number().int().min(0).max(0xff);
export const u16 = z.number().int().min(0).max(0xffff);
export const u32 = z.number().int().min(0).max(0xffffffff);
export const u64 = z.union([z.number().int().min(0), z.string().regex(/^(0x[0-9a-fA-F]{1,16}|\d{1,20})$/)]);
export const hex = z.string().regex(/^([0-9a-fA-F]{2})*$/, 'bytes are pairs of hexadecimal digits');
/** A number that is never an open descriptor: negative, or above a process's limit. */
export const noDescriptor = z.union([z.int32().max(-2), z.int32().min(1 << 30)]);
export const size = z.union([z.literal(1), z.literal(2), z.literal(4)]);

/**
 * Every step may state its expected result: in `expect`, a value or the name of an errno (or SIGBUS). `linux` states it
 * for Linux 7.3, and the profile that behaves as it does, if the result differs there; `next` for the profile `next`.
 */
export function step<Op extends string, Shape extends z.ZodRawShape>(op: Op, description: string, shape: Shape) {
  const common = {
    op: z.literal(op),
    expect: z.json().optional(),
    linux: z.json().optional(),
    next: z.json().optional(),
  };
  return z.strictObject({ ...common, ...shape }).describe(description);
}
