/**
 * One QEMU process, with its own folder for files and sockets and its console in a file. Its end removes the folder.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  copyFileSync,
  createWriteStream,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  type WriteStream,
} from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { labPath } from './cache.ts';
import { CommandError } from './command.ts';
import { fairLimit, runDelayMs } from './fair-limit.ts';
import { onExit } from './on-exit.ts';
import { QEMU_ENVIRONMENT, qemuProgram } from './qemu.ts';

/** The path of the last guest's console. */
function lastConsole(): string {
  return labPath('console.log');
}

const RETRY_MS = 5;

export interface ConsoleOptions {
  /** The path of the console; by default it is in the folder. */
  file?: string | undefined;
  /** Called with each part of the console's output. */
  onOutput?: ((part: Buffer) => void) | undefined;
}

export class QemuProcess {
  readonly folder: string;
  readonly consolePath: string;
  /** Resolves when QEMU has ended, with a description of how. */
  readonly ended: Promise<string>;
  isOver = false;
  private readonly child: ChildProcess;
  private readonly log: WriteStream;
  private readonly takeBack: () => void;

  private constructor(folder: string, consolePath: string, child: ChildProcess, log: WriteStream) {
    this.folder = folder;
    this.consolePath = consolePath;
    this.child = child;
    this.log = log;
    this.takeBack = onExit(() => {
      this.keepConsole();
      child.kill('SIGKILL');
      rmSync(folder, { recursive: true, force: true });
    });
    this.ended = new Promise((resolve) => {
      child.once('error', (error) => resolve(`QEMU did not start: ${error.message}`));
      // `close` comes after all console output was read.
      child.once('close', (code, signal) => resolve(`QEMU ended (${signal ?? `status ${code}`})`));
    });
    this.ended.then(() => {
      this.isOver = true;
    });
  }

  /** Starts QEMU. `prepare` writes QEMU's input files into the folder, and returns its arguments. */
  static async start(
    prepare: (folder: string) => string[] | Promise<string[]>,
    { file, onOutput }: ConsoleOptions = {},
  ): Promise<QemuProcess> {
    const folder = mkdtempSync(join(tmpdir(), 'barter-lab-'));
    const takeBack = onExit(() => rmSync(folder, { recursive: true, force: true }));
    try {
      const [command, ...args] = [...qemuProgram(), ...(await prepare(folder))];
      const consolePath = file ?? join(folder, 'console.log');
      const log = createWriteStream(consolePath);
      await once(log, 'open');
      const child = spawn(command, args, {
        stdio: ['ignore', 'pipe', 'pipe'],
        env: { ...process.env, ...QEMU_ENVIRONMENT() },
      });
      for (const stream of [child.stdout, child.stderr]) {
        stream.on('data', (part: Buffer) => {
          log.write(part);
          onOutput?.(part);
        });
      }
      return new QemuProcess(folder, consolePath, child, log);
    } catch (error) {
      rmSync(folder, { recursive: true, force: true });
      throw error;
    } finally {
      takeBack();
    }
  }

  /** Connects to the socket of a port. Throws CommandError if QEMU ends first. */
  async connect(name: string, options: { allowHalfOpen?: boolean } = {}): Promise<Socket> {
    const path = join(this.folder, `${name}.sock`);
    for (;;) {
      while (!existsSync(path) && !this.isOver) await delay(RETRY_MS);
      if (this.isOver) throw new CommandError(`${await this.ended} before it listened`);
      const socket = connect({ path, ...options });
      try {
        await once(socket, 'connect');
        // A QEMU that ends resets the connection.
        socket.on('error', () => {});
        return socket;
      } catch {
        // A socket has its name a moment before QEMU listens on it.
        await delay(RETRY_MS);
      }
    }
  }

  kill(): void {
    this.child.kill('SIGKILL');
  }

  /** Calls `onOver` when `limitMs` have passed in which the host let QEMU run. Returns a function that takes it away. */
  limit(limitMs: number, onOver: () => void): () => void {
    return fairLimit(limitMs, () => runDelayMs(this.child.pid), onOver);
  }

  /** Waits at most `graceMs` for QEMU's end, and then kills it. */
  async endWithin(graceMs: number): Promise<void> {
    const release = this.limit(graceMs, () => this.kill());
    await this.ended;
    release();
  }

  /** The last lines that the guest wrote to its console. */
  consoleTail(lines = 25): string {
    return this.consoleText().trimEnd().split('\n').slice(-lines).join('\n');
  }

  consoleText(): string {
    return existsSync(this.consolePath) ? readFileSync(this.consolePath, 'utf8') : '';
  }

  /** Must be called after the end. Removes everything except the last guest's console in the cache. */
  async dispose(): Promise<void> {
    if (!this.log.writableFinished) {
      this.log.end();
      await once(this.log, 'finish');
    }
    this.keepConsole();
    this.takeBack();
    rmSync(this.folder, { recursive: true, force: true });
  }

  private keepConsole(): void {
    if (existsSync(this.consolePath)) copyFileSync(this.consolePath, lastConsole());
  }
}
