/** The server under test: a socket that is there, or a command that is started anew when it ended. */
import type { ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Errno } from '../abi/errno.ts';
import { isSocket } from '../linux/is-socket.ts';
import { keptOf, killGroup, spawnGroup } from './program.ts';

/** Stands for the path of a fresh socket in the words of a command. */
export const SOCKET_PLACE = '{socket}';
/** Stands for the path of a fresh folder, where a command makes a socket for each of its devices. */
const FOLDER_PLACE = '{dir}';
const FOLDER_OPTION = '--socket-dir';
/** A server has this long to come up; a good one is noticed at once. */
const START_MS = 60_000;
const POLL_MS = 5;
/** A server that is told to end has this long before it is killed. */
const STOP_MS = 500;

export interface DeviceSocket {
  name: string;
  path: string;
}

/** How a process ended that nobody told to. */
export interface Ending {
  /** In words: "signal SIGABRT", "status 1". */
  how: string;
  /** Whether it may end so: status 0. */
  isClean: boolean;
  /** The last lines that it printed. */
  output: string;
}

export interface JudgedServer {
  /** Makes sure that it runs, and returns the sockets of its devices. */
  start(): Promise<readonly DeviceSocket[]>;
  /** How it ended; null while it runs. Waits up to `waitMs` for an end that is under way. */
  ending(waitMs: number): Promise<Ending | null>;
  /** Ends it; the next `start` begins anew. */
  stop(): Promise<void>;
  /** Whether `start` can begin anew. */
  readonly canRestart: boolean;
  dispose(): Promise<void>;
}

/** A server that somebody else started. */
export class RunningServer implements JudgedServer {
  readonly canRestart = false;
  private readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  async start(): Promise<readonly DeviceSocket[]> {
    if (!existsSync(this.path)) throw new Errno('ENOENT', `there is no socket ${this.path}`);
    return [{ name: basename(this.path, '.sock'), path: this.path }];
  }

  async ending(): Promise<Ending | null> {
    return null;
  }

  async stop(): Promise<void> {}

  async dispose(): Promise<void> {}
}

/** A command that serves. */
export class ServerCommand implements JudgedServer {
  readonly canRestart = true;
  private readonly command: readonly string[];
  private readonly folder = mkdtempSync(join(tmpdir(), 'barter-conform-'));
  /** Where the sockets are: one path, or a folder of them. */
  private readonly place: { socket: string } | { folder: string };
  private child: ChildProcess | null = null;
  private ended: Ending | null = null;
  private exit: Promise<void> = Promise.resolve();
  private output = '';
  private lines = 0;

  /** `command` has a placeholder, or the option --socket-dir. EINVAL where the sockets cannot be found. */
  constructor(command: readonly string[]) {
    const option = command.findIndex((word) => word === FOLDER_OPTION || word.startsWith(`${FOLDER_OPTION}=`));
    const socket = join(this.folder, 'device.sock');
    const has = (place: string) => command.some((word) => word.includes(place));
    if (has(SOCKET_PLACE)) this.place = { socket };
    else if (has(FOLDER_PLACE)) this.place = { folder: this.folder };
    else if (option >= 0) this.place = { folder: resolve(folderOf(command, option)) };
    else {
      rmSync(this.folder, { recursive: true });
      throw new Errno('EINVAL', `the command names no socket: write ${SOCKET_PLACE} where its path goes`);
    }
    this.command = command.map((word) => word.replaceAll(SOCKET_PLACE, socket).replaceAll(FOLDER_PLACE, this.folder));
  }

  async start(): Promise<readonly DeviceSocket[]> {
    if (this.child === null || this.ended !== null) this.spawn();
    const deadline = performance.now() + START_MS;
    for (;;) {
      const sockets = this.sockets();
      if (sockets.length > 0) return sockets;
      const ended = await this.ending(0);
      const told = this.output.trim().split('\n').at(-1);
      if (ended !== null)
        throw new Errno('ECONNREFUSED', `the server ended with ${ended.how} before it listened: ${told}`);
      if (performance.now() > deadline)
        throw new Errno('ETIMEDOUT', `the server has no socket after ${START_MS} ms: ${told}`);
      await sleep(POLL_MS);
    }
  }

  private spawn(): void {
    if ('socket' in this.place) rmSync(this.place.socket, { force: true });
    this.ended = null;
    this.output = '';
    this.lines = 0;
    const child = spawnGroup(this.command, (text, stream) => {
      if (stream === 'stdout') this.lines += text.split('\n').length - 1;
      this.output = keptOf(this.output + text);
    });
    this.child = child;
    this.exit = new Promise((done) => {
      const end = (how: string, isClean: boolean) => {
        if (this.child === child) this.ended ??= { how, isClean, output: this.output.trim() };
        done();
      };
      child.once('error', (error) => end(error.message, false));
      child.once('exit', (status, signal) =>
        end(signal === null ? `status ${status}` : `signal ${signal}`, status === 0),
      );
    });
  }

  private sockets(): DeviceSocket[] {
    if ('socket' in this.place) return isSocket(this.place.socket) ? [{ name: 'device', path: this.place.socket }] : [];
    // The first line says that every socket listens.
    if (this.lines === 0 || !existsSync(this.place.folder)) return [];
    const { folder } = this.place;
    const paths = readdirSync(folder)
      .sort()
      .map((name) => join(folder, name));
    return paths.filter(isSocket).map((path) => ({ name: basename(path, '.sock'), path }));
  }

  async ending(waitMs: number): Promise<Ending | null> {
    if (this.ended === null && waitMs > 0) await Promise.race([this.exit, sleep(waitMs, undefined, { ref: false })]);
    return this.ended;
  }

  async stop(): Promise<void> {
    const { child } = this;
    if (child === null) return;
    if (this.ended === null) {
      killGroup(child, 'SIGTERM');
      const killer = setTimeout(() => killGroup(child, 'SIGKILL'), STOP_MS);
      await this.exit;
      clearTimeout(killer);
    }
    // A launcher may end before the server that it started.
    killGroup(child, 'SIGKILL');
    this.child = null;
  }

  async dispose(): Promise<void> {
    await this.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

function folderOf(command: readonly string[], option: number): string {
  const [, joined] = command[option].split('=');
  const folder = joined ?? command[option + 1];
  if (folder === undefined) throw new Errno('EINVAL', `${FOLDER_OPTION} of the command needs a folder`);
  return folder;
}
