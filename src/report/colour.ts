/** Colour on terminals that have it: NO_COLOR turns it off, FORCE_COLOR on (https://no-color.org, force-color.org). */
import type { WriteStream } from 'node:tty';
import { styleText } from 'node:util';

type Style = 'good' | 'bad' | 'known' | 'faint';

const FORMATS = { good: 'green', bad: ['bold', 'red'], known: 'yellow', faint: 'dim' } as const;

/** Whether text for the stream may have colour. Node's own check of a terminal reads TERM and COLORTERM. */
export function hasColour(stream: NodeJS.WriteStream, env: NodeJS.ProcessEnv = process.env): boolean {
  const forced = env.FORCE_COLOR;
  if (forced !== undefined && forced !== '') return forced !== '0' && forced !== 'false';
  if (env.NO_COLOR !== undefined && env.NO_COLOR !== '') return false;
  return stream.isTTY === true && (stream as WriteStream).hasColors();
}

/** `text` in a style, for stdout; unchanged if stdout does not have colour. The codes take no columns. */
export function paint(style: Style, text: string): string {
  if (!hasColour(process.stdout)) return text;
  // Newer releases of Node check for colour themselves; `hasColour` has already done so.
  const format = styleText as (format: unknown, text: string, options: object) => string;
  return format(FORMATS[style], text, { validateStream: false });
}
