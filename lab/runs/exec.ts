/** `barter lab exec`: serves the devices, boots a guest with them, and runs a command in it. */
import { existsSync } from 'node:fs';
import { createServer } from 'node:net';
import { resolve } from 'node:path';
import type { Readable } from 'node:stream';
import { WrongUse } from '../host/command.ts';
import { type ExecOutcome, runInGuest } from '../host/exec-guest.ts';
import { type Accel, guestAddress } from '../host/machine.ts';
import type { LabKernel } from '../kernel/kernel.ts';
import { Served, Started } from './run.ts';

export interface ExecRequest {
  kernel: LabKernel;
  accel: Accel;
  machine?: string | undefined;
  /** Files with one device model each. */
  devices: readonly string[];
  /** Modules: a file each, or the name of one of the kernel's own. */
  modules: readonly string[];
  shares: readonly string[];
  /** Null for a shell: on the terminal if there is one, else with standard input as its script. */
  command: readonly string[] | null;
  setup?: readonly string[];
  environment?: Readonly<Record<string, string>>;
  append?: string | undefined;
  memory?: string | undefined;
  cpus?: number | undefined;
  qemuArgs: readonly string[];
  leakCheck?: boolean;
  timeoutMs?: number | undefined;
  consoleFile?: string | undefined;
  /** Called with the port at which the guest waits for a debugger. */
  onDebugger?: ((port: number) => void) | undefined;
  terminal: { rows: number; columns: number } | null;
  stdin: Readable;
  onStdout: (part: Buffer) => void;
  onStderr: (part: Buffer) => void;
  onStarted?: (addresses: ReadonlyMap<string, string>) => void;
}

export async function labExec(request: ExecRequest): Promise<ExecOutcome> {
  const files = request.modules.filter((module) => /\.ko$|\//.test(module)).map(existingFile);
  const kernelModules = request.modules.filter((module) => !/\.ko$|\//.test(module));
  const shares = new Map(request.shares.map((path, i) => [`share${i}`, existingFile(path)]));
  const started = new Started();
  try {
    const served = await serve(request, started);
    const names = served.flatMap(({ sockets }) => [...sockets.keys()]);
    const addresses = new Map(names.map((name, i) => [name, guestAddress(i)]));
    const { kernel, accel, append, memory, cpus, leakCheck, command } = request;
    const debug = request.onDebugger === undefined ? [] : await debuggerArguments(request.onDebugger);
    const environment = { ...inherited(), ...deviceVariables(addresses), ...request.environment };
    return await runInGuest({
      ...{ kernel, accel, kernelModules },
      ...definedOnly({ append, memory, cpus, leakCheck }),
      devices: served.flatMap((each) => [...each.sockets.keys()].map((name) => each.qemuDevice(name))),
      extra: [...request.qemuArgs, ...debug],
      isDebugged: request.onDebugger !== undefined,
      program: {
        command: command ?? [request.terminal === null ? '/bin/sh' : loginShell()],
        cwd: process.cwd(),
        environment,
        modules: files,
        shares,
        setup: request.setup ?? [],
        terminal: command === null ? request.terminal : null,
      },
      timeoutMs: request.timeoutMs,
      consoleFile: request.consoleFile,
      stdin: request.stdin,
      onStdout: request.onStdout,
      onStderr: request.onStderr,
      onStarted: () => request.onStarted?.(addresses),
    });
  } finally {
    await started.stopAll();
  }
}

async function serve({ machine, devices }: ExecRequest, started: Started): Promise<Served[]> {
  const served: Served[] = [];
  if (machine !== undefined) served.push(started.add(await Served.start(existingFile(machine))));
  if (devices.length > 0) served.push(started.add(await Served.models(devices.map(existingFile))));
  return served;
}

function existingFile(path: string): string {
  if (!existsSync(path)) throw new WrongUse(`there is no ${path}`);
  return resolve(path);
}

/** A device's address for the command: BARTER_DEVICE_LENDER=0000:01:00.0. */
function deviceVariables(addresses: ReadonlyMap<string, string>): Record<string, string> {
  return Object.fromEntries(
    [...addresses].map(([name, address]) => [
      `BARTER_DEVICE_${name.toUpperCase().replaceAll(/[^A-Z0-9]/g, '_')}`,
      address,
    ]),
  );
}

/** The variables of the user's environment that the command gets. */
function inherited(): Record<string, string> {
  const names = ['TERM', 'LANG', 'LC_ALL', 'NODE_PATH', 'USER'];
  return Object.fromEntries(names.flatMap((name) => (process.env[name] ? [[name, process.env[name]]] : [])));
}

function loginShell(): string {
  return existsSync('/bin/bash') ? '/bin/bash' : '/bin/sh';
}

/** Makes QEMU stop before the first instruction and listen on a free port. */
async function debuggerArguments(onDebugger: (port: number) => void): Promise<string[]> {
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  onDebugger(port);
  return ['-S', '-gdb', `tcp:127.0.0.1:${port}`];
}

function definedOnly<T extends object>(values: T): { [Key in keyof T]?: NonNullable<T[Key]> } {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as never;
}
