/** The device that docs/writing-a-device.md writes, in a guest. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { CommandError } from '../command.ts';
import { Guest, guestAddress } from '../guest.ts';
import { onExit } from '../on-exit.ts';
import { type LabOptions, type LabResult, labRun } from './run.ts';

const PROGRAM = fileURLToPath(new URL('../../examples/checksum.ts', import.meta.url));
const DONE = 2;

export function ownDevice(options: LabOptions): Promise<LabResult> {
  return labRun(options, async (steps, started) => {
    const program = await steps.take('run examples/checksum.ts', async () => started.add(await Program.start()));
    const socket = { type: 'unix', path: program.socket };
    const devices = [JSON.stringify({ driver: 'vfio-user-pci', socket })];
    const guest = await steps.take('boot the guest', async () =>
      started.add(await Guest.boot({ ...options, devices })),
    );
    const { release } = await guest.call('hello', {});
    const answer = await steps.take('have it read a megabyte', () =>
      guest.call('ownDevice', { address: guestAddress(0) }),
    );
    steps.compare('its ids', '1b36:0c5c', answer.ids);
    steps.compare('its STATUS', DONE, answer.status);
    steps.compare('its CRC-32 of guest memory', answer.wanted, answer.crc32);
    return release;
  });
}

class Program {
  readonly socket: string;
  private readonly process: ChildProcess;
  private readonly folder: string;
  private readonly takeBack: () => void;

  private constructor(process: ChildProcess, folder: string, socket: string, takeBack: () => void) {
    this.process = process;
    this.folder = folder;
    this.socket = socket;
    this.takeBack = takeBack;
  }

  static async start(): Promise<Program> {
    const folder = mkdtempSync(join(tmpdir(), 'barter-own-device-'));
    const args = ['--import', import.meta.resolve('tsx'), PROGRAM, folder];
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    const takeBack = onExit(() => {
      child.kill('SIGTERM');
      rmSync(folder, { recursive: true, force: true });
    });
    const lines = createInterface({ input: child.stdout });
    const [line] = await Promise.race([once(lines, 'line'), once(lines, 'close')]);
    const socket = /^ready: (.*)$/.exec(line ?? '')?.[1];
    if (socket !== undefined) return new Program(child, folder, socket, takeBack);
    takeBack();
    rmSync(folder, { recursive: true, force: true });
    throw new CommandError('examples/checksum.ts ended before it was ready');
  }

  async stop(): Promise<void> {
    if (this.process.exitCode === null && this.process.signalCode === null) {
      const gone = once(this.process, 'exit');
      this.process.kill('SIGTERM');
      await gone;
    }
    this.takeBack();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
