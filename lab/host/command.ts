/** Runs other programs: their output goes into a log, and its last lines into the error if one fails. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync, createWriteStream, readFileSync } from 'node:fs';
import { onExit } from './on-exit.ts';

export class CommandError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'CommandError';
  }
}

/** An impossible request by the user: exit status 2. */
export class WrongUse extends CommandError {
  constructor(message: string) {
    super(message);
    this.name = 'WrongUse';
  }
}

/** The bytes of a file that the user named. WrongUse if they cannot be read. */
export function readGiven(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new WrongUse(`${path} cannot be read: ${(error as Error).message}`);
  }
}

const CLEAN_ENVIRONMENT = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C' };

/** For words in a failed program's output: their meaning for the user, and the next step. */
const ADVICE: readonly [RegExp, string][] = [
  [
    /(temporary failure|could not) resolv|unable to connect|could not connect|network is unreachable|failed to fetch/i,
    'this machine does not reach the package mirror: is it offline, or does apt need a proxy? What was fetched is kept',
  ],
  [
    /failed getting release file|connection (timed out|refused)/i,
    'the package mirror does not answer: try again later',
  ],
  [/no space left on device/i, 'the disk is full: the lab needs about 2 GB; BARTER_CACHE says where'],
  [
    /(cannot unshare|unshare failed|chroot: cannot|mount): .*(not permitted|permission denied)/i,
    'this container may neither chroot nor mount: the lab needs a root user that may (CAP_SYS_ADMIN)',
  ],
  [/unable to locate package/i, "apt's package lists are empty or old: run apt-get update"],
  [/NO_PUBKEY|unknown key|invalid signature|couldn't be verified/i, 'install the package debian-archive-keyring'],
];

function adviceFor(text: string): string {
  const advice = ADVICE.find(([pattern]) => pattern.test(text));
  return advice === undefined ? '' : `${advice[1]}.\n`;
}

/**
 * Runs a program to its end with its output in `log`. Throws CommandError if it fails, with the end of its output and,
 * if known, the next step. When this process ends, the program ends too, with all its children.
 */
export async function run(log: string, command: string, args: readonly string[], cwd?: string): Promise<void> {
  appendFileSync(log, `\n$ ${command} ${args.join(' ')}\n`);
  const stream = createWriteStream(log, { flags: 'a' });
  await once(stream, 'open');
  // Its own process group, so that one signal ends the program and its children.
  const child = spawn(command, args, {
    stdio: ['ignore', stream, stream],
    env: CLEAN_ENVIRONMENT,
    cwd,
    detached: true,
  });
  const takeBack = onExit(() => child.pid !== undefined && process.kill(-child.pid, 'SIGTERM'));
  const status = await new Promise<number | string | null>((resolve) => {
    child.once('error', (error: NodeJS.ErrnoException) => resolve(error.code === 'ENOENT' ? 'ENOENT' : error.message));
    child.once('exit', (code, signal) => resolve(code ?? signal));
  });
  takeBack();
  stream.end();
  if (status === 0) return;
  if (status === 'ENOENT') throw new CommandError(`there is no program ${command} here: apt-get install it`);
  const written = readFileSync(log, 'utf8').trimEnd().split('\n');
  const tail = written.slice(Math.max(written.findLastIndex((line) => line.startsWith('$ ')) + 1, written.length - 12));
  throw new CommandError(
    `${adviceFor(tail.join('\n'))}${command} ${args.slice(0, 4).join(' ')} ended with ${status}:\n` +
      `  ${tail.join('\n  ')}\n(all of it: ${log})`,
  );
}

/** Returns the output of a program; null if it fails or does not exist. */
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
