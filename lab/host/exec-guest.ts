/** A guest that runs one command. Ports carry its input and output, its status comes back, and then the guest ends. */
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { type KernelReport, kernelReports } from '../kernel/reports.ts';
import { writeGuestImage } from './guest-image.ts';
import { EXEC_PORTS, type ExecProgram, execInit } from './init.ts';
import { HOST_FILES, type MachineOptions, machineArguments, portArguments, sharedFolder } from './machine.ts';
import { QemuProcess } from './qemu-process.ts';
import { guestPath } from './tools.ts';

const BOOT_TIMEOUT_MS = 180_000;
/** The limit from the command's end to QEMU's. */
const POWER_OFF_MS = 10_000;

export interface ExecGuestOptions extends MachineOptions {
  program: ExecProgram;
  /** Kernel modules to load besides those of every guest. */
  kernelModules?: readonly string[];
  /** The limit from the command's start. */
  timeoutMs?: number | undefined;
  /** Whether the guest waits for a debugger before its first instruction. Then no time limit applies. */
  isDebugged?: boolean;
  consoleFile?: string | undefined;
  stdin: Readable;
  onStdout: (part: Buffer) => void;
  onStderr: (part: Buffer) => void;
  /** Called when the command starts. */
  onStarted?: () => void;
}

export interface ExecOutcome {
  /** The command's exit status; null if it did not end. */
  status: number | null;
  /** The reason for a missing status: the guest did not come up, could not be set up, died, or took too long. */
  fault: { kind: 'not up' | 'setup' | 'died' | 'timeout'; message: string } | null;
  /** From QEMU's start to the command's. */
  bootMs: number | null;
  /** The release that uname reports; empty if the command did not start. */
  release: string;
  reports: KernelReport[];
}

export async function runInGuest(options: ExecGuestOptions): Promise<ExecOutcome> {
  const { program, kernel } = options;
  const startedMs = performance.now();
  const qemu = await QemuProcess.start(
    (folder) => {
      const initrd = join(folder, 'initrd.gz');
      const environment = { PATH: guestPath(folder), ...program.environment };
      writeGuestImage(initrd, kernel, options.kernelModules ?? [], execInit({ ...program, environment }));
      return [
        ...machineArguments(initrd, options),
        ...HOST_FILES,
        ...[...program.shares].flatMap(([tag, path]) => sharedFolder(tag, path)),
        ...portArguments(folder, EXEC_PORTS),
        ...(program.terminal === null ? [] : terminalArguments(folder)),
      ];
    },
    { file: options.consoleFile },
  );
  const outcome = await follow(qemu, options, startedMs);
  const reports = kernelReports(qemu.consoleText());
  await qemu.dispose();
  return { ...outcome, reports };
}

function terminalArguments(folder: string): string[] {
  const chardev = `socket,id=terminal,path=${folder}/terminal.sock,server=on,wait=off`;
  return ['-chardev', chardev, '-device', 'virtconsole,chardev=terminal,name=terminal'];
}

async function follow(
  qemu: QemuProcess,
  options: ExecGuestOptions,
  startedMs: number,
): Promise<Omit<ExecOutcome, 'reports'>> {
  let bootMs: number | null = null;
  let release = '';
  let fault: ExecOutcome['fault'] = null;
  let status: number | null = null;
  const end = (kind: NonNullable<ExecOutcome['fault']>['kind'], message: string): void => {
    fault ??= { kind, message };
    qemu.kill();
  };
  const bootLimitMs = BOOT_TIMEOUT_MS * options.kernel.slowness;
  let timer: NodeJS.Timeout | undefined;
  let releaseBoot = (): void => {};
  if (options.isDebugged !== true) {
    const why = `the guest did not boot within ${bootLimitMs / 1000} s`;
    releaseBoot = qemu.limit(bootLimitMs, () => end('not up', why));
  }
  const onControl = (line: string): void => {
    const [word, ...rest] = line.split(' ');
    if (word === 'started') {
      release = rest[0];
      bootMs = performance.now() - startedMs;
      releaseBoot();
      const { timeoutMs } = options;
      if (timeoutMs !== undefined) {
        timer = setTimeout(() => end('timeout', `the command did not end within ${timeoutMs / 1000} s`), timeoutMs);
      }
      options.onStarted?.();
    }
    if (word === 'failed') end('setup', `in the guest: ${rest.join(' ')}`);
    if (word === 'status') {
      status = Number(rest[0]);
      clearTimeout(timer);
      timer = setTimeout(() => qemu.kill(), POWER_OFF_MS);
    }
  };
  try {
    await connectPorts(qemu, options, onControl);
  } catch (error) {
    // If QEMU ended before it listened, its exit status says more.
    if (!qemu.isOver) end('not up', (error as Error).message);
  }
  const how = await qemu.ended;
  releaseBoot();
  clearTimeout(timer);
  if (status === null && fault === null) {
    const tail = qemu.consoleTail();
    const message = `${how}${tail === '' ? '' : `; the end of its console:\n${tail}`}`;
    fault = { kind: bootMs === null ? 'not up' : 'died', message };
  }
  return { status, fault, bootMs, release };
}

/** Connects the ports; returns when all output of the guest has arrived. */
async function connectPorts(
  qemu: QemuProcess,
  { program, stdin, onStdout, onStderr }: ExecGuestOptions,
  onControl: (line: string) => void,
): Promise<void> {
  // Half of the connection stays open when the input ends, so that the guest can read the rest first.
  const input = await qemu.connect('stdin', { allowHalfOpen: true });
  const output = await qemu.connect('stdout');
  const errors = await qemu.connect('stderr');
  const control = await qemu.connect('control');
  createInterface({ input: control })
    .on('error' as never, () => {})
    .on('line', (line) => {
      if (line === 'reading') stdin.pipe(input);
      else onControl(line);
    });
  output.on('data', onStdout);
  errors.on('data', onStderr);
  if (program.terminal !== null) {
    const terminal = await qemu.connect('terminal');
    terminal.on('data', onStdout);
    stdin.pipe(terminal);
  }
  await Promise.all([output, errors, control].map(closed));
  stdin.unpipe();
  input.destroy();
}

async function closed(socket: Socket): Promise<void> {
  if (!socket.closed) await once(socket, 'close');
}
