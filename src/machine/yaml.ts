/** YAML documents checked by a schema, with errors that name file, line and field. */
import { isMap, isSeq, LineCounter, parseDocument } from 'yaml';
import type { z } from 'zod';

/** A document that cannot be used: what is wrong, and where. */
export class DocumentError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'DocumentError';
  }
}

/** What a schema makes of a document; `check` may find more that is wrong, by path. DocumentError says where. */
export function parseYaml<Schema extends z.ZodType>(
  text: string,
  path: string,
  schema: Schema,
  check: (value: z.output<Schema>) => Problem | null = () => null,
): z.output<Schema> {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, logLevel: 'error' });
  const syntax = document.errors[0];
  if (syntax !== undefined) {
    throw new DocumentError(`${path}:${lines.linePos(syntax.pos[0]).line}: ${syntax.message.split('\n')[0]}`);
  }
  const result = schema.safeParse(plain(document, path));
  const problem: Problem | null = result.success ? check(result.data) : result.error.issues[0];
  if (problem === null && result.success) return result.data;
  const line = lineOf(document.contents, problem!.path, lines);
  throw new DocumentError(`${path}:${line}: ${problem!.path.join('.') || 'the document'}: ${problem!.message}`);
}

/** Aliases are followed only here: one without its anchor, or too many of them, is no document either. */
function plain(document: ReturnType<typeof parseDocument>, path: string): unknown {
  try {
    return document.toJS();
  } catch (error) {
    throw new DocumentError(`${path}: ${(error as Error).message.split('\n')[0]}`);
  }
}

export interface Problem {
  path: readonly PropertyKey[];
  message: string;
}

/** The line of the deepest node on a path that is there. */
function lineOf(root: unknown, path: readonly PropertyKey[], lines: LineCounter): number {
  let node = root;
  let start = 0;
  for (const key of path) {
    if (!isMap(node) && !isSeq(node)) break;
    const next: unknown = node.get(key, true);
    if (next === undefined || next === null) break;
    node = next;
    start = (node as { range?: [number, number, number] }).range?.[0] ?? start;
  }
  return lines.linePos(start).line;
}
