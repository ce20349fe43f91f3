/** Finds the source place of an event: the stack frames outside the machinery of tasks. */
import { readFileSync } from 'node:fs';
import { SourceMap } from 'node:module';
import { dirname, join, relative } from 'node:path';
import { PACKAGE_ROOT } from '../../linux/package-file.ts';

const ROOT = `${PACKAGE_ROOT}/`;

/**
 * Returns at most `limit` entries `function file:line`, innermost first. Empty if no frame names a file outside that
 * machinery.
 */
export function callerStack(limit = 6): string[] {
  const before = Error.stackTraceLimit;
  Error.stackTraceLimit = 40;
  const stack = new Error().stack ?? '';
  Error.stackTraceLimit = before;
  const frames: string[] = [];
  for (const line of stack.split('\n').slice(1)) {
    const match = /at (?:([\w.$<>]+) )?.*?(?:file:\/\/)?(\/[^\s:?]+\.[cm]?[jt]s)[^\s:]*:(\d+):(\d+)/.exec(line);
    if (match === null || match[2].includes('/node_modules/')) continue;
    const source = sourceOf(match[2], Number(match[3]), Number(match[4]));
    // Paths of Barter's own files start at its root, all others at the working directory.
    const file = source.path.startsWith(ROOT) ? source.path.slice(ROOT.length) : relative('.', source.path);
    if (MACHINERY.test(file)) continue;
    const name = (match[1] ?? '').replace(/^Object\./, '').replace(/\.next$/, '');
    frames.push(`${name === '' || name.includes('<') ? '' : `${name} `}${file}:${source.line}`);
    if (frames.length === limit) break;
  }
  return frames;
}

/** Runs `search` without recording the stacks of errors. Tasks throw many errors as answers, and stacks are slow. */
export function withoutStacks<T>(search: () => T): T {
  const before = Error.stackTraceLimit;
  Error.stackTraceLimit = 0;
  try {
    return search();
  } finally {
    Error.stackTraceLimit = before;
  }
}

/** Source maps of the files in dist/, whose lines they map to the sources; null for a file without one. */
const maps = new Map<string, SourceMap | null>();

/** The source of a place in a built file. Any other place maps to itself. Lines and columns count from 1. */
function sourceOf(path: string, line: number, column: number): { path: string; line: number } {
  if (!path.startsWith(`${ROOT}dist/`)) return { path, line };
  let map = maps.get(path);
  if (map === undefined) {
    map = readMap(`${path}.map`);
    maps.set(path, map);
  }
  const entry = map?.findEntry(line - 1, column - 1);
  if (entry === undefined || !('originalSource' in entry)) return { path, line };
  return { path: join(dirname(path), entry.originalSource), line: entry.originalLine + 1 };
}

function readMap(path: string): SourceMap | null {
  try {
    return new SourceMap(JSON.parse(readFileSync(path, 'utf8')));
  } catch {
    return null;
  }
}

/** Code that runs tasks, as opposed to the tasks' own code. */
const MACHINERY = /^src\/(task|cli|explore)\//;

/** `file:line` of the innermost frame, or an empty string. */
export function callerLine(): string {
  return lineOf(callerStack(1));
}

/** `file:line` of the first frame of a stack. */
export function lineOf(stack: readonly string[]): string {
  return stack[0]?.split(' ').at(-1) ?? '';
}
