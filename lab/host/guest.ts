/** One boot of the guest, with an agent inside that answers calls. */
import { readFileSync, writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { packageFile } from '../../src/linux/package-file.ts';
import type { AgentCalls, AgentReply } from '../agent/calls.ts';
import type { LabKernel } from '../kernel/kernel.ts';
import { DISTRIBUTION } from '../kernel/named.ts';
import { type KernelReport, kernelReports } from '../kernel/reports.ts';
import { CommandError } from './command.ts';
import { writeGuestImage } from './guest-image.ts';
import { agentInit } from './init.ts';
import { type Accel, HOST_FILES, type MachineOptions, machineArguments, portArguments } from './machine.ts';
import { QemuProcess } from './qemu-process.ts';
import { guestPath } from './tools.ts';

export { guestAddress } from './machine.ts';

const BOOT_TIMEOUT_MS = 180_000;
const CALL_TIMEOUT_MS = 120_000;
const KMEMLEAK = '/sys/kernel/debug/kmemleak';

export interface GuestOptions extends Omit<MachineOptions, 'kernel' | 'accel'> {
  /** The distribution's kernel by default. */
  kernel?: LabKernel;
  /** TCG by default. */
  accel?: Accel;
  /** Called with each part of the console's output. */
  onConsole?: ((part: Buffer) => void) | undefined;
  /** Kernel modules to load besides those of every guest. */
  modules?: readonly string[];
}

export class Guest {
  /** The kernel's reports; complete after the guest has stopped. */
  reports: readonly KernelReport[] = [];
  private readonly kernel: LabKernel;
  private readonly leakCheck: boolean;
  private readonly qemu: QemuProcess;
  private socket: Socket | null = null;
  private nextId = 1;
  private readonly waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();

  private constructor(kernel: LabKernel, leakCheck: boolean, qemu: QemuProcess) {
    this.kernel = kernel;
    this.leakCheck = leakCheck;
    this.qemu = qemu;
    qemu.ended.then((how) => this.fail(how));
  }

  /** Boots, and returns when the agent answers. If it does not, throws CommandError with the end of the console. */
  static async boot(options: GuestOptions): Promise<Guest> {
    const { kernel = DISTRIBUTION, accel = 'tcg', leakCheck = false, modules = [], onConsole } = options;
    const prepare = (folder: string): string[] => {
      const agent = join(folder, 'agent.mjs');
      copyAgent(agent);
      const initrd = join(folder, 'initrd.gz');
      writeGuestImage(initrd, kernel, modules, agentInit(process.execPath, agent, guestPath(folder)));
      return [
        ...machineArguments(initrd, { ...options, kernel, accel }),
        ...HOST_FILES,
        ...portArguments(folder, ['barter']),
      ];
    };
    const qemu = await QemuProcess.start(prepare, { onOutput: onConsole });
    const guest = new Guest(kernel, leakCheck, qemu);
    await guest.start();
    return guest;
  }

  /**
   * Calls the agent. Rethrows the agent's error; throws CommandError if the guest dies or is silent for `timeoutMs`.
   */
  async call<Name extends keyof AgentCalls>(
    name: Name,
    parameters: AgentCalls[Name]['parameters'],
    timeoutMs = CALL_TIMEOUT_MS,
  ): Promise<AgentCalls[Name]['result']> {
    const id = this.nextId++;
    const answer = new Promise<unknown>((resolve, reject) => this.waiting.set(id, { resolve, reject }));
    this.socket!.write(`${JSON.stringify({ id, name, parameters })}\n`);
    const waitMs = timeoutMs * this.kernel.slowness;
    const release = this.qemu.limit(waitMs, () =>
      this.fail(`the guest did not answer ${name} within ${waitMs / 1000} s`),
    );
    try {
      return (await answer) as AgentCalls[Name]['result'];
    } finally {
      release();
    }
  }

  /** Powers the guest off, and kills QEMU if it does not end by itself. Removes everything. */
  async stop(): Promise<void> {
    const leaks = this.leakCheck ? await this.findLeaks() : '';
    for (const { reject } of this.waiting.values()) reject(new CommandError('the guest was stopped'));
    this.waiting.clear();
    this.socket?.write(`${JSON.stringify({ id: 0, name: 'exit' })}\n`);
    await this.qemu.endWithin(this.socket === null ? 0 : 10_000);
    this.socket?.destroy();
    this.reports = kernelReports(`${this.qemu.consoleText()}\n${leaks}`);
    await this.qemu.dispose();
  }

  private async start(): Promise<void> {
    const ready = new Promise<unknown>((resolve, reject) => this.waiting.set(0, { resolve, reject }));
    const waitMs = BOOT_TIMEOUT_MS * this.kernel.slowness;
    const release = this.qemu.limit(waitMs, () => this.fail(`the guest did not boot within ${waitMs / 1000} s`));
    try {
      await Promise.race([this.connect(), ready]);
      await ready;
      // Leaks of the boot itself do not count.
      if (this.leakCheck) await this.call('shell', { command: `echo clear > ${KMEMLEAK}` });
    } catch (error) {
      await this.stop();
      throw error;
    } finally {
      release();
    }
  }

  /**
   * Finds memory that nothing points to. An object counts after two scans have missed it, and only if it is some
   * seconds old: until then its owner may hold it in a register alone.
   */
  private async findLeaks(): Promise<string> {
    const scan = `echo scan > ${KMEMLEAK}`;
    try {
      const { stdout } = await this.call('shell', { command: `sleep 6; ${scan}; ${scan}; cat ${KMEMLEAK}` });
      return stdout;
    } catch {
      // A guest that died has printed the reason on its console.
      return '';
    }
  }

  private async connect(): Promise<void> {
    const socket = await this.qemu.connect('barter');
    this.socket = socket;
    // A QEMU that ends resets the connection, and the interface reports that a second time.
    const lines = createInterface({ input: socket }).on('error' as never, () => {});
    lines.on('line', (line) => this.onReply(JSON.parse(line) as AgentReply));
  }

  private onReply(reply: AgentReply): void {
    const waiting = this.waiting.get(reply.id);
    this.waiting.delete(reply.id);
    if (reply.error !== undefined) waiting?.reject(new CommandError(`in the guest: ${reply.error}`));
    else waiting?.resolve(reply.result);
  }

  private fail(why: string): void {
    if (this.waiting.size === 0) return;
    const tail = this.qemu.consoleTail();
    const error = new CommandError(tail === '' ? why : `${why}; the end of its console:\n${tail}`);
    for (const { reject } of this.waiting.values()) reject(error);
    this.waiting.clear();
  }
}

/**
 * Copies the agent as one file of plain JavaScript, so that the guest reads little over 9p. koffi stays in its place:
 * the guest sees the machine's own files.
 */
function copyAgent(target: string): void {
  const agent = readFileSync(packageFile('dist/bundle/agent.mjs'), 'utf8');
  const koffi = fileURLToPath(import.meta.resolve('koffi'));
  writeFileSync(target, agent.replaceAll(/from\s*"koffi"/g, `from ${JSON.stringify(koffi)}`));
}
