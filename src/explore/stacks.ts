/** Where in our own code something happens: the frames of a stack that are not the machinery of tasks. */

/** `function file:line`, innermost first, at most `limit` of them. Empty where the stack names no file of ours. */
export function callerStack(limit = 6): string[] {
  const before = Error.stackTraceLimit;
  Error.stackTraceLimit = 40;
  const stack = new Error().stack ?? '';
  Error.stackTraceLimit = before;
  const frames: string[] = [];
  for (const line of stack.split('\n').slice(1)) {
    const match = /at (?:([\w.$<>]+) )?.*?((?:src|test|examples)\/[\w./-]+\.ts):(\d+)/.exec(line);
    if (match === null || MACHINERY.test(match[2])) continue;
    const name = (match[1] ?? '').replace(/^Object\./, '').replace(/\.next$/, '');
    frames.push(`${name === '' || name.includes('<') ? '' : `${name} `}${match[2]}:${match[3]}`);
    if (frames.length === limit) break;
  }
  return frames;
}

const MACHINERY =
  /^src\/(task|cli|explore\/(data-races|explore|minimise|program|schedule|search|stacks|trace|walk|world)\.ts)/;

/** `file:line` of the innermost frame, or nothing. */
export function callerLine(): string {
  return lineOf(callerStack(1));
}

/** `file:line` of the first of such frames. */
export function lineOf(stack: readonly string[]): string {
  return stack[0]?.split(' ').at(-1) ?? '';
}
