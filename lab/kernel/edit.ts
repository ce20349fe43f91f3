/**
 * A change to a kernel's source that contains no line of the kernel: a file, a function, a pattern that matches there
 * once, and the new lines.
 */
import { parse } from 'yaml';
import { z } from 'zod';
import { WrongUse } from '../host/command.ts';

const place = z.strictObject({
  file: z.string(),
  /** The function in whose body the pattern must match; by default the whole file. */
  function: z.string().optional(),
  /** A regular expression that matches whole lines. */
  find: z.string(),
  /** Whether the new lines replace the match or go beside it. */
  at: z.enum(['instead', 'before', 'after']),
  put: z.string(),
});

const edit = z.strictObject({ title: z.string(), why: z.string(), edits: z.array(place).min(1) });

export type KernelEdit = z.infer<typeof edit>;
type EditPlace = z.infer<typeof place>;

/** Throws WrongUse if the text is not an edit. */
export function parseEdit(text: string, name: string): KernelEdit {
  const result = edit.safeParse(parse(text));
  if (result.success) return result.data;
  const [{ path, message }] = result.error.issues;
  throw new WrongUse(`${name}: ${path.join('.')}: ${message}`);
}

/** Returns a file's text with one edit made. Throws WrongUse unless the pattern matches exactly once. */
export function applyEdit(text: string, change: EditPlace): string {
  const { start, end } = bodyOf(text, change);
  const body = text.slice(start, end);
  const found = [...body.matchAll(new RegExp(`^${change.find}$`, 'gm'))];
  if (found.length !== 1) {
    const where = change.function === undefined ? change.file : `${change.function} of ${change.file}`;
    throw new WrongUse(`${change.find} is ${found.length} times in ${where}, and must be there once`);
  }
  const [{ 0: lines, index }] = found;
  const put = change.put.trimEnd();
  const kept = { instead: put, before: `${put}\n${lines}`, after: `${lines}\n${put}` }[change.at];
  return text.slice(0, start) + body.slice(0, index) + kept + body.slice(index + lines.length) + text.slice(end);
}

/**
 * Finds a function's body: a function starts in the first column with its name before a parenthesis, and ends with a
 * brace in that column.
 */
function bodyOf(text: string, { file, function: name }: EditPlace): { start: number; end: number } {
  if (name === undefined) return { start: 0, end: text.length };
  const definition = new RegExp(`^(?=[a-z]).*\\b${name}\\((?:[^;{}]*)\\)\\s*\\{$`, 'm').exec(text);
  if (definition === null) throw new WrongUse(`${file} has no function ${name}`);
  const end = text.indexOf('\n}\n', definition.index);
  return { start: definition.index, end: end < 0 ? text.length : end + 2 };
}
