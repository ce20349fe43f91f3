/** Checks a command that came from the page. */
import * as z from 'zod';
import { DocumentError } from '../machine/yaml.ts';
import type { ControlCommand } from '../vfio-user/monitor/control.ts';

const device = z.string().max(64);
const id = z.int().positive();
const bytes = z.int().nonnegative();
/** An importer that holds a buffer longer than this would only be cut off. */
const holdMs = z.int().min(0).max(60_000);

const schema = z.discriminatedUnion('op', [
  z.strictObject({ op: z.enum(['memory', 'low-power']), device, on: z.boolean() }),
  z.strictObject({ op: z.literal('power'), device, state: z.literal([0, 1, 2, 3]) }),
  z.strictObject({ op: z.enum(['open', 'close', 'flr', 'reset', 'hot-reset']), device }),
  z.strictObject({ op: z.literal('export'), device, region: z.int().min(0).max(5), offset: bytes, sizeBytes: bytes }),
  z.strictObject({ op: z.literal('import'), buffer: id, device, holdMs }),
  z.strictObject({ op: z.literal('drop-import'), importer: id }),
  z.strictObject({ op: z.literal('close-buffer'), buffer: id }),
]);

/** Throws an Error with one sentence for anything that is not a command. */
export function parseControlCommand(value: unknown): ControlCommand {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const { path, message } = parsed.error.issues[0];
  throw new DocumentError(`a command: ${path.join('.') || 'op'}: ${message}`);
}
