/** YAML documents checked by a schema. Errors name file, line and field. */
import { readFileSync } from 'node:fs';
import { isMap, isScalar, isSeq, LineCounter, parseDocument, Scalar, type ScalarTag } from 'yaml';
import type { z } from 'zod';

/** YAML has hexadecimal numbers without a sign only; "-0x1000" would be text. */
const SIGNED_HEX: ScalarTag = {
  tag: 'tag:yaml.org,2002:int',
  default: true,
  test: /^[-+]0x[0-9a-fA-F]+$/,
  resolve: (text) => (text.startsWith('-') ? -1 : 1) * Number(text.slice(1)),
};

/** A faulty document. The message names the file, the line, the field and the reason. */
export class DocumentError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'DocumentError';
  }
}

/** A rule that a document breaks, and where. */
export interface Problem {
  /** Keys and indices from the root of the document. */
  path: readonly PropertyKey[];
  message: string;
  /** For a text of several lines: the line within it, from 0 on. */
  textLine?: number;
}

const REASONS: Record<string, string> = {
  EISDIR: 'this is a folder; name a file in it',
  ENOENT: 'there is no such file',
  ENOTDIR: 'there is no such file: a part of the path is not a folder',
  EACCES: 'this user may not read it',
  EPERM: 'this user may not read it',
};

/** Reads a file, or stdin for `-`. DocumentError with the reason when it cannot. */
export function readDocument(path: string): string {
  try {
    return readFileSync(path === '-' ? 0 : path, 'utf8');
  } catch (error) {
    const { code = '', message } = error as NodeJS.ErrnoException;
    throw new DocumentError(`${path}: ${REASONS[code] ?? message}`);
  }
}

/** Parses a document by a schema. `check` may find more problems, by path. DocumentError names the place. */
export function parseYaml<Schema extends z.ZodType>(
  text: string,
  path: string,
  schema: Schema,
  check: (value: z.output<Schema>) => Problem | null = () => null,
): z.output<Schema> {
  const lines = new LineCounter();
  const document = parseDocument(text, {
    lineCounter: lines,
    logLevel: 'error',
    customTags: (tags) => [SIGNED_HEX, ...tags],
  });
  const syntax = document.errors[0];
  if (syntax !== undefined) {
    const { line } = lines.linePos(syntax.pos[0]);
    const reason =
      syntax.code === 'MULTIPLE_DOCS' ? 'a second document begins here, and a file has one' : syntax.message;
    throw new DocumentError(`${path}:${line}: the document: ${reason.split('\n')[0]}`);
  }
  const result = schema.safeParse(plain(document, path));
  const problem = result.success ? check(result.data) : problemOf(result.error.issues[0]);
  if (problem === null && result.success) return result.data;
  const line = lineOf(document.contents, problem!, lines);
  const field = problem!.path.map(keyText).join('.') || 'the document';
  throw new DocumentError(`${path}:${line}: ${field}: ${problem!.message}`);
}

/** Resolves aliases. This is where a missing anchor, or too many aliases, is found. */
function plain(document: ReturnType<typeof parseDocument>, path: string): unknown {
  try {
    return document.toJS();
  } catch (error) {
    throw new DocumentError(`${path}:1: the document: ${(error as Error).message.split('\n')[0]}`);
  }
}

/** Turns the schema's issue into a problem at its field. */
function problemOf(issue: z.core.$ZodIssue): Problem {
  const { path } = issue;
  if (issue.code === 'unrecognized_keys') {
    const [key] = issue.keys;
    return { path: [...path, key], message: 'there is no such field here' };
  }
  if (issue.code === 'invalid_key') return { path, message: issue.issues[0]?.message ?? issue.message };
  const received = /^Invalid input: expected \w+, received (\w+)$/.exec(issue.message)?.[1];
  if (issue.code !== 'invalid_type' || received === undefined) return { path, message: issue.message };
  const wanted = KINDS[issue.expected] ?? issue.expected;
  if (received === 'undefined') return { path, message: `it is missing, and has no default: ${wanted}` };
  return { path, message: `${wanted} must be here, not ${RECEIVED[received] ?? `a ${received}`}` };
}

/** The kinds of values in the words of YAML. */
const KINDS: Record<string, string> = {
  object: 'fields (as in {} or on indented lines)',
  array: 'a list (as in [] or lines with -)',
  string: 'text',
  boolean: 'true or false',
};
const RECEIVED: Record<string, string> = { null: 'nothing', object: 'fields', array: 'a list', string: 'text' };

/** Returns a key as the file writes it, in quotes where it is not a word. */
function keyText(key: PropertyKey): string {
  const text = String(key);
  return /^[\w-]+$/.test(text) ? text : JSON.stringify(text);
}

/** Returns the line of the deepest existing node on a path. */
function lineOf(root: unknown, { path, textLine }: Problem, lines: LineCounter): number {
  let node = root;
  let start = 0;
  for (const key of path) {
    if (!isMap(node) && !isSeq(node)) break;
    const next: unknown = node.get(key, true);
    if (next === undefined || next === null) break;
    node = next;
    start = (node as { range?: [number, number, number] }).range?.[0] ?? start;
  }
  const { line } = lines.linePos(start);
  // The text of a block begins on the line below its "|".
  const isBlock = isScalar(node) && (node.type === Scalar.BLOCK_LITERAL || node.type === Scalar.BLOCK_FOLDED);
  return isBlock && textLine !== undefined ? line + 1 + textLine : line;
}
