/** A run of the lab: devices served by this clone, a guest that has them, and steps with expected results. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { createInterface } from 'node:readline';
import { packageFile } from '../../src/linux/package-file.ts';
import type { TracedExchange } from '../../src/vfio-user/exchange/exchanges.ts';
import { CommandError } from '../host/command.ts';
import type { Accel } from '../host/machine.ts';
import { onExit } from '../host/on-exit.ts';
import { qemuVersion } from '../host/qemu.ts';
import type { LabKernel } from '../kernel/kernel.ts';
import { type KernelReport, undocumented } from '../kernel/reports.ts';

export interface LabStep {
  name: string;
  ok: boolean;
  ms: number;
  /** The expected and the seen value, if they are short. */
  expected?: unknown;
  seen?: unknown;
}

export interface LabResult {
  ok: boolean;
  /** The versions that the programs themselves report. */
  qemu: string;
  kernel: string;
  steps: LabStep[];
  /** The kernel's reports during the run. */
  reports: KernelReport[];
}

/** How a run boots its guest. */
export interface LabOptions {
  kernel: LabKernel;
  accel: Accel;
  leakCheck: boolean;
  /** For runs of a chosen duration: how long they run, and their seed. */
  seconds?: number | undefined;
  seed?: number | undefined;
  onStep: (step: LabStep) => void;
  /** Called with each part of the console of each guest. */
  onConsole?: ((part: Buffer) => void) | undefined;
}

/** Collects the steps of a run and reports each. A step that throws has failed. */
export class Steps {
  readonly all: LabStep[] = [];
  private readonly onStep: (step: LabStep) => void;

  constructor(onStep: (step: LabStep) => void) {
    this.onStep = onStep;
  }

  async take<T>(name: string, action: () => T | Promise<T>, seen: (value: T) => unknown = () => undefined): Promise<T> {
    const started = performance.now();
    try {
      const value = await action();
      this.add({ name, ok: true, ms: elapsed(started), ...show('seen', seen(value)) });
      return value;
    } catch (error) {
      this.add({ name, ok: false, ms: elapsed(started), seen: (error as Error).message });
      throw error;
    }
  }

  /** Adds a step that compares its result with the expected one. */
  compare(name: string, expected: unknown, seen: unknown, ms = 0): boolean {
    const ok = JSON.stringify(expected) === JSON.stringify(seen);
    this.add({ name, ok, ms, expected, seen });
    return ok;
  }

  /** Adds a figure without an expected value. */
  note(name: string, seen: unknown): void {
    this.add({ name, ok: true, ms: 0, seen });
  }

  private add(step: LabStep): void {
    this.all.push(step);
    this.onStep(step);
  }
}

function elapsed(started: number): number {
  return Math.round((performance.now() - started) * 10) / 10;
}

function show(key: string, value: unknown): Record<string, unknown> {
  return value === undefined ? {} : { [key]: value };
}

/**
 * Runs `body`, which returns the kernel's version. A CommandError becomes a failed step. At the end everything that was
 * started is stopped.
 */
export async function labRun(
  { onStep }: LabOptions,
  body: (steps: Steps, started: Started) => Promise<string>,
): Promise<LabResult> {
  const steps = new Steps(onStep);
  const qemu = await qemuVersion();
  const started = new Started();
  let kernel = '';
  try {
    kernel = await body(steps, started);
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    if (steps.all.at(-1)?.ok !== false) steps.compare('no error', null, error.message);
  } finally {
    await started.stopAll();
  }
  const { reports } = started;
  const ok = steps.all.every((step) => step.ok) && undocumented(reports).length === 0;
  return { ok, qemu, kernel, steps: steps.all, reports };
}

/** A process or guest that runs beside this one and must be stopped. After its end a guest has reports. */
interface Stoppable {
  stop(): Promise<void>;
  readonly reports?: readonly KernelReport[];
}

/** Everything that a run has started. Stops it in the opposite order. */
export class Started {
  readonly reports: KernelReport[] = [];
  private readonly things: Stoppable[] = [];

  add<T extends Stoppable>(thing: T): T {
    this.things.push(thing);
    return thing;
  }

  async stopAll(): Promise<void> {
    for (const thing of this.things.splice(0).reverse()) {
      await thing.stop();
      this.reports.push(...(thing.reports ?? []));
    }
  }
}

interface Device {
  name: string;
  socket: string;
}

/** `barter serve`, or another server, in a process of its own. */
export class Served {
  readonly pid: number;
  readonly sockets: ReadonlyMap<string, string>;
  /** With `trace`: all messages so far. */
  readonly events: TracedExchange[] = [];
  private readonly process: ChildProcess;
  private readonly folder: string;
  private readonly takeBack: () => void;

  private constructor(
    process: ChildProcess,
    folder: string,
    sockets: ReadonlyMap<string, string>,
    takeBack: () => void,
  ) {
    this.takeBack = takeBack;
    this.process = process;
    this.pid = process.pid!;
    this.folder = folder;
    this.sockets = sockets;
  }

  static start(machine: string, { trace = false } = {}): Promise<Served> {
    const bin = packageFile('bin/barter.cjs');
    const more = trace ? ['--trace'] : [];
    return Served.launch(
      `barter serve ${machine}`,
      (folder) => [bin, 'serve', machine, '--socket-dir', folder, '--json', ...more],
      (line) => (JSON.parse(line) as { devices: Device[] }).devices,
    );
  }

  /**
   * Starts a program that serves one device. Its last argument, after `words`, is the folder for the socket, whose name
   * is the device's.
   */
  static program(path: string, ...words: string[]): Promise<Served> {
    return Served.launch(
      path,
      (folder) => [path, ...words, folder],
      (line) => {
        const socket = line.replace(/^ready: /, '');
        return [{ name: basename(socket, '.sock'), socket }];
      },
    );
  }

  /** Serves the user's device models: each file's default export, under the file's name. */
  static models(files: readonly string[]): Promise<Served> {
    const program = packageFile('dist/lab/host/device-server.js');
    const words = files.map((file) => `${basename(file).replace(/\.[cm]?[jt]s$/, '')}=${file}`);
    return Served.launch(
      files.join(', '),
      (folder) => [program, folder, ...words],
      (line) => (JSON.parse(line) as { devices: Device[] }).devices,
    );
  }

  /** Starts Node with `args`, and reads the devices from its first line. */
  private static async launch(
    what: string,
    args: (folder: string) => string[],
    devicesOf: (line: string) => Device[],
  ): Promise<Served> {
    const folder = mkdtempSync(join(tmpdir(), 'barter-lab-sockets-'));
    const child = spawn(process.execPath, args(folder), { stdio: ['ignore', 'pipe', 'inherit'] });
    const takeBack = onExit(() => {
      child.kill('SIGTERM');
      rmSync(folder, { recursive: true, force: true });
    });
    const lines = createInterface({ input: child.stdout });
    const [ready] = await Promise.race([once(lines, 'line'), once(lines, 'close')]);
    if (ready === undefined) {
      takeBack();
      rmSync(folder, { recursive: true, force: true });
      throw new CommandError(`${what} ended before it was ready`);
    }
    const sockets = new Map(devicesOf(ready as string).map(({ name, socket }) => [name, socket]));
    const served = new Served(child, folder, sockets, takeBack);
    lines.on('line', (line) => served.events.push(JSON.parse(line) as TracedExchange));
    return served;
  }

  /** The argument that makes QEMU attach a served device. */
  qemuDevice(name: string): string {
    const path = this.sockets.get(name);
    if (path === undefined) throw new CommandError(`the machine has no device ${name}`);
    return JSON.stringify({ driver: 'vfio-user-pci', socket: { type: 'unix', path } });
  }

  /** The path of a BAR's memfd in the server's process. It contains the BAR's bytes. */
  barFile(label: string): string {
    const folder = `/proc/${this.pid}/fd`;
    const fd = readdirSync(folder).find((entry) => readLink(join(folder, entry)).includes(`barter:${label}`));
    if (fd === undefined) throw new CommandError(`process ${this.pid} has no memory named ${label}`);
    return join(folder, fd);
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

function readLink(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    // The descriptor was closed after the folder was read.
    return '';
  }
}
