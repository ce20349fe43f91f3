/** Where in our own code something happens: the frames of a stack that are not the machinery of tasks. */
import { relative } from 'node:path';
import { PACKAGE_ROOT } from '../../linux/package-file.ts';

const ROOT = `${PACKAGE_ROOT}/`;

/** `function file:line`, innermost first, at most `limit` of them. Empty where the stack names no file of ours. */
export function callerStack(limit = 6): string[] {
  const before = Error.stackTraceLimit;
  Error.stackTraceLimit = 40;
  const stack = new Error().stack ?? '';
  Error.stackTraceLimit = before;
  const frames: string[] = [];
  for (const line of stack.split('\n').slice(1)) {
    const match = /at (?:([\w.$<>]+) )?.*?(?:file:\/\/)?(\/[^\s:?]+\.[cm]?[jt]s)[^\s:]*:(\d+)/.exec(line);
    if (match === null || match[2].includes('/node_modules/')) continue;
    // Barter's own files from its root, those of others from where the command was given.
    const file = match[2].startsWith(ROOT) ? match[2].slice(ROOT.length) : relative('.', match[2]);
    if (MACHINERY.test(file)) continue;
    const name = (match[1] ?? '').replace(/^Object\./, '').replace(/\.next$/, '');
    frames.push(`${name === '' || name.includes('<') ? '' : `${name} `}${file}:${match[3]}`);
    if (frames.length === limit) break;
  }
  return frames;
}

/** What steps tasks, and not what the tasks do. */
const MACHINERY = /^src\/(task|cli|explore)\//;

/** `file:line` of the innermost frame, or nothing. */
export function callerLine(): string {
  return lineOf(callerStack(1));
}

/** `file:line` of the first of such frames. */
export function lineOf(stack: readonly string[]): string {
  return stack[0]?.split(' ').at(-1) ?? '';
}
