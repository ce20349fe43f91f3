/** Runs other programs: output into a log, and its last lines into the error when one fails. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync, createWriteStream, readFileSync } from 'node:fs';

export class CommandError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'CommandError';
  }
}

const CLEAN_ENVIRONMENT = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C' };

/** Runs a program to its end with its output in `log`. CommandError with the end of its output when it fails. */
export async function run(log: string, command: string, args: readonly string[], cwd?: string): Promise<void> {
  appendFileSync(log, `\n$ ${command} ${args.join(' ')}\n`);
  const stream = createWriteStream(log, { flags: 'a' });
  await once(stream, 'open');
  const child = spawn(command, args, { stdio: ['ignore', stream, stream], env: CLEAN_ENVIRONMENT, cwd });
  const status = await new Promise<number | string | null>((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('exit', (code, signal) => resolve(code ?? signal));
  });
  stream.end();
  if (status === 0) return;
  const tail = readFileSync(log, 'utf8').trimEnd().split('\n').slice(-12).join('\n  ');
  throw new CommandError(
    `${command} ${args.slice(0, 4).join(' ')} ended with ${status}:\n  ${tail}\n(all of it: ${log})`,
  );
}

/** What a program prints; null where it fails or is not there. */
export async function output(command: string, args: readonly string[]): Promise<string | null> {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'ignore'], env: CLEAN_ENVIRONMENT });
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (part: string) => {
    text += part;
  });
  return await new Promise((resolve) => {
    child.once('error', () => resolve(null));
    child.once('close', (code) => resolve(code === 0 ? text : null));
  });
}
