/** Lines of text that fit a terminal. */
import { paint } from './colour.ts';

const USUAL_COLUMNS = 80;
const MIN_COLUMNS = 40;

/** The columns of stdout; 80 if it is not a terminal. */
export function columns(): number {
  return Math.max(MIN_COLUMNS, process.stdout.columns ?? USUAL_COLUMNS);
}

/**
 * Breaks `text` at blanks into lines that end before column `width`. The first begins at column `start`, after the
 * caller's own text, and the others at `indent`. A longer word stays whole.
 */
export function hang(text: string, indent: number, width = columns(), start = 0): string {
  const lines: string[] = [];
  let line: string | null = null;
  for (const word of text.split(' ')) {
    const room = width - (lines.length === 0 ? start : indent);
    if (line === null) line = word;
    else if (line.length + 1 + word.length <= room || line.trim() === '') line += ` ${word}`;
    else {
      lines.push(line);
      line = word;
    }
  }
  return [...lines, line ?? ''].join(`\n${' '.repeat(indent)}`);
}

/** `left` and `right` in one line if they fit, else `right` below, indented and broken into lines. */
export function beside(left: string, right: string, indent: number, width = columns()): string {
  if (right === '') return left;
  if (left.length + 2 + right.length <= width) return `${left}  ${right}`;
  return `${left}\n${' '.repeat(indent)}${hang(right, indent, width, indent)}`;
}

export interface TimedStep {
  name: string;
  ok: boolean;
  /** 0 for a step that only compares. */
  ms: number;
  detail: string;
}

const NAME_COLUMNS = 36;

/** The line of a step of a demo or of a run in the lab, with its duration. Highlights FAILED. */
export function timedStepText({ name, ok, ms, detail }: TimedStep, width = columns()): string {
  const time = ms === 0 ? '' : `${ms.toFixed(1)} ms`;
  const line = beside(`        ${name.padEnd(NAME_COLUMNS)} ${time.padStart(11)}`.trimEnd(), detail, 8, width);
  return (ok ? paint('good', '  ok    ') : paint('bad', 'FAILED  ')) + line.slice(8);
}
