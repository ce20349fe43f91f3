/** barter lab exec: runs a command in a guest that has the devices of a machine file, or of the user's own classes. */
import type { Command } from 'commander';
import type { ExecOutcome } from '../../lab/host/exec-guest.ts';
import { qemuVersion } from '../../lab/host/qemu.ts';
import { undocumented } from '../../lab/kernel/reports.ts';
import { type ExecRequest, labExec } from '../../lab/runs/exec.ts';
import { demandFolder, demandReadable, demandWritable } from './files.ts';
import {
  addRigOptions,
  KERNEL_HELP,
  type LabRig,
  numberOption,
  type RigOptions,
  reported,
  takeRig,
} from './lab-options.ts';
import { printReports } from './lab-reports.ts';
import { loadMachineFile } from './machine-path.ts';
import { addReportOption, isQuiet, type ReportOptions, reportSuites } from './report-option.ts';
import { execSuite } from './suites.ts';
import { UsageError } from './usage.ts';

export interface ExecOptions extends RigOptions, ReportOptions {
  json?: true;
  machine?: string;
  device: string[];
  module: string[];
  share: string[];
  timeout?: number;
  append?: string;
  memory?: string;
  cpus?: number;
  qemuArg: string[];
  console?: string;
  gdb?: true;
  /** Commands of the guest's shell before the command itself. */
  setup?: readonly string[];
}

/** `git bisect run` skips a revision with this status. */
export const NOT_UP = 125;
/** As of timeout(1). */
const TOOK_TOO_LONG = 124;
/** Ctrl-]: the guest ends at once. */
const ESCAPE = 0x1d;

const collect = (value: string, before: string[]): string[] => [...before, value];
const collectWords = (value: string, before: string[]): string[] => [...before, ...value.trim().split(/\s+/)];

export function addExecCommand(lab: Command): void {
  const command = lab
    .command('exec')
    .argument('[command...]', 'what the guest runs, after --; without it a shell')
    .description('boot a kernel with devices of your own, and run a command in it')
    .option('--machine <file>', 'serve the devices of a machine file')
    .option(
      '--device <file>',
      'serve the device whose class is the default export of a file (again for more)',
      collect,
      [],
    )
    .option(
      '--module <module>',
      'load a module first: a .ko file, or a name of the kernel (again for more)',
      collect,
      [],
    )
    .option('--share <dir>', 'a folder that the guest can write (again for more)', collect, [])
    .option('--timeout <seconds>', 'the command must end within this time; else the status is 124', numberOption)
    .option('--append <text>', "more words for the kernel's command line")
    .option('--memory <size>', 'memory of the guest, such as 4G', memoryOption)
    .option('--cpus <n>', 'processors of the guest', numberOption)
    .option('--qemu-arg <words>', 'more arguments of QEMU (again for more)', collectWords, [])
    .option('--console <file>', "keep the kernel's console in a file")
    .option('--gdb', 'wait for a debugger before the first instruction, and say how to attach')
    .option('--json', 'print one JSON document');
  addRigOptions(addReportOption(command))
    .addHelpText('after', HELP)
    .action((words: string[], options: ExecOptions) => reported(() => exec(words, options), NOT_UP));
}

const HELP = `
The guest sees this machine's files at their own paths, and can write to /dev/shm and to what --share names. Devices are
bound to no driver but those of the kernel; the variable BARTER_DEVICE_NAME has a device's address. The status is the
command's; 125 where the guest does not come up, 124 where the command takes too long, and 1 where the command succeeds
and the kernel complains. Ctrl-] ends a guest with a terminal.
${KERNEL_HELP}

Examples:
  barter lab exec -- uname -r
  barter lab exec --machine examples/two-peers.yaml -- lspci -nn
  barter lab exec --device examples/checksum.ts --module ./checksum.ko -- ./test.sh
  barter lab exec --kernel ~/linux --append lockdep -- ./reproducer
  barter lab exec --qemu-arg '-device edu' --console console.log`;

function memoryOption(text: string): string {
  if (!/^[1-9]\d*[MG]$/.test(text)) throw new UsageError(`--memory ${text} is not a size: write it as 512M or 4G`);
  return text;
}

export async function exec(words: string[], options: ExecOptions): Promise<void> {
  const isJson = isQuiet(options);
  const isKept = isJson || options.report !== undefined;
  demandInputs(options);
  const rig = await takeRig(options);
  const output = { stdout: '', stderr: '' };
  const progress = new BootProgress(rig, isJson);
  const request: ExecRequest = {
    ...{ kernel: rig.kernel, accel: rig.accel, machine: options.machine, devices: options.device },
    ...{
      setup: options.setup ?? [],
      modules: options.module,
      shares: options.share,
      command: words.length === 0 ? null : words,
    },
    ...{ append: options.append, memory: options.memory, cpus: options.cpus, qemuArgs: options.qemuArg },
    timeoutMs: options.timeout === undefined ? undefined : options.timeout * 1000,
    consoleFile: options.console,
    onDebugger: options.gdb === true ? (port) => sayDebugger(rig, port) : undefined,
    terminal: words.length === 0 && !isJson ? terminalSize() : null,
    stdin: process.stdin,
    onStdout: (part) => {
      if (isKept) output.stdout += part.toString('utf8');
      if (!isJson) process.stdout.write(part);
    },
    onStderr: (part) => {
      if (isKept) output.stderr += part.toString('utf8');
      if (!isJson) process.stderr.write(part);
    },
    onStarted: () => progress.end(),
  };
  const outcome = await withTerminal(request, () => labExec(request)).finally(() => progress.end());
  process.exitCode = statusOf(outcome);
  if (outcome.fault !== null) console.error(`barter: ${outcome.fault.message}`);
  await reportSuites(options, 'barter lab exec', [execSuite(words, outcome, output)], outcome.reports);
  if (!isJson) return printReports(outcome.reports, process.stderr);
  if (options.json !== true) return;
  const { status, release, reports, fault, bootMs } = outcome;
  const document = { kernel: release, qemu: await qemuVersion(), accel: rig.accel, status, ...output, reports };
  console.log(JSON.stringify({ ...document, fault: fault?.kind ?? null, bootMs }));
}

/** Refuses what the guest could not use, before anything is prepared or boots. */
function demandInputs({ machine, device, module, share, console: kept }: ExecOptions): void {
  if (machine !== undefined) loadMachineFile(machine);
  for (const file of device) demandReadable(file, '--device');
  // A name without a slash and .ko is a module of the kernel.
  for (const file of module) if (file.includes('/') || file.endsWith('.ko')) demandReadable(file, '--module');
  for (const folder of share) demandFolder(folder, '--share');
  if (kept !== undefined) demandWritable(kept, '--console FILE');
}

function statusOf({ status, fault, reports }: ExecOutcome): number {
  if (fault !== null) return { 'not up': NOT_UP, setup: 1, died: 1, timeout: TOOK_TOO_LONG }[fault.kind];
  return status === 0 && undocumented(reports).length > 0 ? 1 : (status ?? 1);
}

function sayDebugger({ kernel }: LabRig, port: number): void {
  const symbols = kernel.symbols() ?? 'VMLINUX';
  console.error(`barter: the guest waits: gdb ${symbols} -ex 'target remote :${port}' -ex continue`);
}

function terminalSize(): { rows: number; columns: number } | null {
  const { stdin, stdout } = process;
  return stdin.isTTY && stdout.isTTY ? { rows: stdout.rows, columns: stdout.columns } : null;
}

/** With a terminal, sends every key to the guest. Unread input must not keep this process alive. */
async function withTerminal<T>({ terminal }: ExecRequest, action: () => Promise<T>): Promise<T> {
  const { stdin } = process;
  const watch = (part: Buffer): void => {
    if (part.includes(ESCAPE)) process.exit(130);
  };
  if (terminal !== null) stdin.setRawMode(true).on('data', watch);
  try {
    return await action();
  } finally {
    if (terminal !== null) stdin.setRawMode(false);
    stdin.destroy();
  }
}

/** Shows on a terminal how long the boot takes, until the command starts. */
class BootProgress {
  private readonly timer: NodeJS.Timeout | null = null;

  constructor({ kernel, accel }: LabRig, isQuiet: boolean) {
    if (isQuiet || !process.stderr.isTTY) return;
    const startedMs = Date.now();
    const show = (): void => {
      const seconds = ((Date.now() - startedMs) / 1000).toFixed(0);
      process.stderr.write(`\r\x1b[Kbooting ${kernel.name} (${accel.toUpperCase()}) ... ${seconds} s`);
    };
    show();
    this.timer = setInterval(show, 1000);
  }

  end(): void {
    if (this.timer === null) return;
    clearInterval(this.timer);
    process.stderr.write('\r\x1b[K');
  }
}
