/** The server's log on stderr: levels by pino, lines for people or JSON for collectors. */
import { createRequire } from 'node:module';
import { BoundedOutput } from '../linux/bounded-output.ts';
import type { Log } from '../vfio-user/wire/log.ts';

export const LOG_LEVELS = ['error', 'warn', 'info', 'silent'] as const;
export const LOG_FORMATS = ['text', 'json'] as const;
export type LogThreshold = (typeof LOG_LEVELS)[number];

const STDERR = 2;

/** Loads the library at the first line, so that it does not delay the start. */
export function createLog(threshold: LogThreshold, asJson: boolean): Log {
  let write: Log | null = null;
  return (line, about) => {
    write ??= load(threshold, asJson);
    write(line, about);
  };
}

function load(level: LogThreshold, asJson: boolean): Log {
  const output = new BoundedOutput(STDERR, {
    lost: (lines) => {
      if (asJson) return JSON.stringify({ level: 'warn', cause: 'full', msg: `${lines} lines were lost` });
      return `barter: ${lines} lines of the log were lost`;
    },
  });
  // The bundle of the server has no import() at run time.
  const { pino } = createRequire(import.meta.url)('pino') as typeof import('pino');
  const options = {
    level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
  };
  const logger = pino(options, {
    write: (json: string) => output.write(asJson ? json.trimEnd() : `barter: ${JSON.parse(json).msg}`),
  });
  return (line, { level: each, cause, client }) => logger[each]({ cause, client }, line);
}
