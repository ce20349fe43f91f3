/** One boot of the guest: QEMU, its console in a file, and an agent inside that answers calls. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, createWriteStream, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { packageFile } from '../../src/linux/package-file.ts';
import type { AgentCalls, AgentReply } from '../agent/calls.ts';
import { findKernel, type KernelName, type LabKernel } from '../kernel/kernels.ts';
import { type KernelReport, kernelReports } from '../kernel/reports.ts';
import { labPath } from './cache.ts';
import { CommandError } from './command.ts';
import { writeGuestImage } from './guest-image.ts';
import { onExit } from './on-exit.ts';
import { QEMU_ENVIRONMENT, qemuProgram } from './qemu.ts';

const BOOT_TIMEOUT_MS = 180_000;
const CALL_TIMEOUT_MS = 120_000;
const MEMORY = '2G';
const KMEMLEAK = '/sys/kernel/debug/kmemleak';

export interface GuestOptions {
  /** The distribution's where it is left out. */
  kernel?: KernelName;
  /** With a kernel that has kmemleak: looks for leaks before it ends, which doubles the time to boot. */
  leakCheck?: boolean;
  /**
   * QEMU's devices, each below a root port of its own: the first is at 0000:01:00.0, the second at 0000:02:00.0, ...
   */
  devices: readonly string[];
  /** The distribution's modules that are loaded besides those that every guest has, in this order. */
  modules?: readonly string[];
  /**
   * Links of 5 GT/s. Behind faster ones Linux waits after a bus reset for the port to say that the link is up again,
   * which QEMU's ports do not, and calls the reset failed.
   */
  slowLinks?: boolean;
  /** Devices that sit on the root complex itself, further functions of a port's slot, and other arguments. */
  extra?: readonly string[];
  /** Words of the kernel's command line that say what the IOMMU is for. */
  iommu?: string;
  /** Show the console on stderr as it comes. */
  showConsole?: boolean;
}

/** Where the console of the guest that ended last can be read. */
function lastConsole(): string {
  return labPath('console.log');
}

/** The address of the device that was given as number `index`. */
export function guestAddress(index: number): string {
  return `0000:${(index + 1).toString(16).padStart(2, '0')}:00.0`;
}

export class Guest {
  readonly consolePath: string;
  /** What its kernel complained of; complete once it has stopped. */
  reports: readonly KernelReport[] = [];
  private readonly folder: string;
  private readonly kernel: LabKernel;
  private readonly leakCheck: boolean;
  private readonly qemu: ChildProcess;
  private readonly takeBack: () => void;
  private socket: Socket | null = null;
  private nextId = 1;
  private readonly waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();

  private constructor(folder: string, kernel: LabKernel, leakCheck: boolean, qemu: ChildProcess) {
    this.folder = folder;
    this.kernel = kernel;
    this.leakCheck = leakCheck;
    this.qemu = qemu;
    this.consolePath = join(folder, 'console.log');
    this.takeBack = onExit(() => {
      this.keepConsole();
      this.qemu.kill('SIGKILL');
      rmSync(folder, { recursive: true, force: true });
    });
  }

  /** Boots, and returns when the agent answers. CommandError with the end of the console when it does not. */
  static async boot(options: GuestOptions): Promise<Guest> {
    const folder = mkdtempSync(join(tmpdir(), 'barter-lab-'));
    const takeBack = onExit(() => rmSync(folder, { recursive: true, force: true }));
    try {
      const agent = join(folder, 'agent.mjs');
      copyAgent(agent);
      const kernel = findKernel(options.kernel ?? 'distribution')!;
      writeGuestImage(join(folder, 'initrd.gz'), agent, kernel.modular, options.modules ?? []);
      const [command, ...args] = [...qemuProgram(), ...machineArguments(folder, kernel, options)];
      const qemu = spawn(command, args, {
        stdio: ['ignore', 'pipe', 'pipe'],
        env: { ...process.env, ...QEMU_ENVIRONMENT() },
      });
      const guest = new Guest(folder, kernel, options.leakCheck === true, qemu);
      await guest.start(options.showConsole === true);
      return guest;
    } catch (error) {
      rmSync(folder, { recursive: true, force: true });
      throw error;
    } finally {
      takeBack();
    }
  }

  /** Asks the agent. Throws what it threw, and a CommandError when the guest dies or is silent for `timeoutMs`. */
  async call<Name extends keyof AgentCalls>(
    name: Name,
    parameters: AgentCalls[Name]['parameters'],
    timeoutMs = CALL_TIMEOUT_MS,
  ): Promise<AgentCalls[Name]['result']> {
    const id = this.nextId++;
    const answer = new Promise<unknown>((resolve, reject) => this.waiting.set(id, { resolve, reject }));
    this.socket!.write(`${JSON.stringify({ id, name, parameters })}\n`);
    const waitMs = timeoutMs * this.kernel.slowness;
    const timer = setTimeout(() => this.fail(`the guest did not answer ${name} within ${waitMs / 1000} s`), waitMs);
    try {
      return (await answer) as AgentCalls[Name]['result'];
    } finally {
      clearTimeout(timer);
    }
  }

  /** Powers the guest off; takes QEMU down where it does not go by itself. Nothing is left afterwards. */
  async stop(): Promise<void> {
    const leaks = this.leakCheck ? await this.findLeaks() : '';
    for (const { reject } of this.waiting.values()) reject(new CommandError('the guest was stopped'));
    this.waiting.clear();
    if (this.qemu.exitCode === null && this.qemu.signalCode === null) {
      const gone = once(this.qemu, 'exit');
      this.socket?.write(`${JSON.stringify({ id: 0, name: 'exit' })}\n`);
      const timer = setTimeout(() => this.qemu.kill('SIGKILL'), this.socket === null ? 0 : 10_000);
      await gone;
      clearTimeout(timer);
    }
    this.socket?.destroy();
    if (existsSync(this.consolePath)) this.reports = kernelReports(`${this.consoleText()}\n${leaks}`);
    this.keepConsole();
    this.takeBack();
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** The last lines that the guest wrote to its console. */
  consoleTail(lines = 25): string {
    if (!existsSync(this.consolePath)) return '';
    return readFileSync(this.consolePath, 'utf8').trimEnd().split('\n').slice(-lines).join('\n');
  }

  private consoleText(): string {
    return readFileSync(this.consolePath, 'utf8');
  }

  /** The last guest's console stays in the cache, for who wants to know what its kernel said. */
  private keepConsole(): void {
    if (existsSync(this.consolePath)) copyFileSync(this.consolePath, lastConsole());
  }

  private async start(showConsole: boolean): Promise<void> {
    const log = createWriteStream(this.consolePath);
    await once(log, 'open');
    for (const stream of [this.qemu.stdout!, this.qemu.stderr!]) {
      stream.on('data', (part: Buffer) => {
        log.write(part);
        if (showConsole) process.stderr.write(part);
      });
    }
    this.qemu.once('exit', (code, signal) => this.fail(`QEMU ended (${signal ?? `status ${code}`})`));
    this.qemu.once('error', (error) => this.fail(`QEMU did not start: ${error.message}`));
    const ready = new Promise<unknown>((resolve, reject) => this.waiting.set(0, { resolve, reject }));
    const timer = setTimeout(
      () => this.fail(`the guest did not boot within ${BOOT_TIMEOUT_MS / 1000} s`),
      BOOT_TIMEOUT_MS,
    );
    try {
      await Promise.race([this.connect(), ready]);
      await ready;
      // What the boot itself leaks is nobody's here.
      if (this.leakCheck) await this.call('shell', { command: `echo clear > ${KMEMLEAK}` });
    } catch (error) {
      await this.stop();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  /**
   * What nothing points to any more. An object counts when two scans have missed it, and only if it is some seconds
   * old: so long its owner may have it in a register alone.
   */
  private async findLeaks(): Promise<string> {
    const scan = `echo scan > ${KMEMLEAK}`;
    try {
      const { stdout } = await this.call('shell', { command: `sleep 6; ${scan}; ${scan}; cat ${KMEMLEAK}` });
      return stdout;
    } catch {
      // A guest that died has said on its console why.
      return '';
    }
  }

  private async connect(): Promise<void> {
    const path = join(this.folder, 'agent.sock');
    while (!existsSync(path)) await delay(20);
    const socket = connect(path);
    socket.on('error', () => {});
    await once(socket, 'connect');
    this.socket = socket;
    // A QEMU that ends resets the connection, which the interface reports once more.
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
    const tail = this.consoleTail();
    const error = new CommandError(tail === '' ? why : `${why}; the end of its console:\n${tail}`);
    for (const { reject } of this.waiting.values()) reject(error);
    this.waiting.clear();
  }
}

function machineArguments(folder: string, kernel: LabKernel, options: GuestOptions): string[] {
  const { devices, extra = [], iommu = 'iommu=nopt' } = options;
  // Warnings are shown: a kernel's complaints are looked for on its console.
  const append = [`console=ttyS0 loglevel=5 intel_iommu=on ${iommu} panic=-1`, ...kernel.append];
  if (kernel.name === 'debug') append.push(`kmemleak=${options.leakCheck === true ? 'on' : 'off'}`);
  const slowLinks = options.slowLinks === true ? ',x-speed=5' : '';
  const ports = devices.flatMap((device, i) => [
    '-device',
    `pcie-root-port,id=port${i},chassis=${i + 1},addr=0x${(i + 8).toString(16)}${slowLinks}`,
    '-device',
    withBus(device, `port${i}`),
  ]);
  return [
    ...['-M', 'q35,kernel-irqchip=split,memory-backend=ram', '-accel', 'tcg,thread=multi', '-cpu', 'EPYC', '-smp', '2'],
    ...['-m', MEMORY, '-object', `memory-backend-memfd,id=ram,size=${MEMORY},share=on`],
    ...['-nodefaults', '-display', 'none', '-serial', 'stdio', '-no-reboot'],
    ...['-device', 'intel-iommu,intremap=on,caching-mode=on'],
    ...['-kernel', kernel.image(), '-initrd', join(folder, 'initrd.gz')],
    ...['-append', append.join(' ')],
    ...['-fsdev', 'local,id=host,path=/,security_model=none,readonly=on,multidevs=remap'],
    ...['-device', 'virtio-9p-pci,fsdev=host,mount_tag=host'],
    ...['-chardev', `socket,id=agent,path=${join(folder, 'agent.sock')},server=on,wait=off`],
    ...['-device', 'virtio-serial-pci', '-device', 'virtserialport,chardev=agent,name=barter'],
    ...ports,
    ...extra,
  ];
}

/** QEMU takes a device as words, or as JSON where a field is an object (a socket). */
function withBus(device: string, bus: string): string {
  if (!device.startsWith('{')) return `${device},bus=${bus}`;
  return JSON.stringify({ ...JSON.parse(device), bus });
}

/**
 * One file of plain JavaScript, so that the guest reads little over 9p. koffi stays where it is: the guest sees the
 * machine's own files.
 */
function copyAgent(target: string): void {
  const agent = readFileSync(packageFile('dist/bundle/agent.mjs'), 'utf8');
  const koffi = fileURLToPath(import.meta.resolve('koffi'));
  writeFileSync(target, agent.replaceAll(/from\s*"koffi"/g, `from ${JSON.stringify(koffi)}`));
}
