/** barter lab: a real QEMU with a real kernel in it. */
import { rmSync } from 'node:fs';
import type { Command } from 'commander';
import { lendersOf } from '../../lab/diff/lenders.ts';
import { STAGES } from '../../lab/diff/matrix.ts';
import { labCache } from '../../lab/host/cache.ts';
import { CommandError } from '../../lab/host/command.ts';
import { findKernel, KERNELS, type KernelName } from '../../lab/kernel/kernels.ts';
import { canary } from '../../lab/runs/canary.ts';
import { capabilities } from '../../lab/runs/capabilities.ts';
import { guestCapture } from '../../lab/runs/guest-capture.ts';
import { guestExport } from '../../lab/runs/guest-export.ts';
import { ioatSelftest } from '../../lab/runs/ioat-selftest.ts';
import { mapLeak } from '../../lab/runs/map-leak.ts';
import { ownDevice } from '../../lab/runs/own-device.ts';
import { peerLoad } from '../../lab/runs/peer/load.ts';
import { peerToPeer } from '../../lab/runs/peer/peer-to-peer.ts';
import type { LabOptions, LabResult, LabStep } from '../../lab/runs/run.ts';
import { type DiffCommandOptions, diff } from './lab-diff.ts';
import { prepare, prepareMissing } from './lab-prepare.ts';
import { printReports } from './lab-reports.ts';
import { shell } from './lab-shell.ts';
import { declareCommand } from './summaries.ts';
import { UsageError } from './usage.ts';

type LabRun = (options: LabOptions) => Promise<LabResult>;

/** By name; what `barter lab run` knows. */
const RUNS: Record<string, { describe: string; run: LabRun }> = {
  'guest-export': {
    describe: "the guest's vfio-pci exports a served device's BAR, loses it and regains it",
    run: guestExport,
  },
  'guest-capture': {
    describe: "the guest's own devices, captured from its sysfs and served again",
    run: guestCapture,
  },
  capabilities: {
    describe: "every capability that Linux's vfio shows or hides, byte by byte, in the guest and on the engine",
    run: capabilities,
  },
  'peer-to-peer': {
    describe: 'ioatdma copies into a BAR that vfio-pci lends, until each thing that makes the lender take it back',
    run: peerToPeer,
  },
  'peer-load': {
    describe: 'copies of random sizes into a lent BAR, and revokes at random moments, for a minute',
    run: peerLoad,
  },
  'own-device': {
    describe: 'the device that docs/writing-a-device.md writes, driven by a guest',
    run: ownDevice,
  },
  'ioat-selftest': {
    describe: "the guest's own ioatdma drives a served I/OAT engine: its self-test, and copies of random sizes",
    run: ioatSelftest,
  },
  'map-leak': {
    describe: 'maps and unmaps a lent buffer 5,000 times, and counts what stays in the kernel (kernel-findings.md, 8)',
    run: mapLeak,
  },
  canary: {
    describe: 'with --kernel debug: does what its detectors are there for, and fails as every run does then',
    run: canary,
  },
};

export function addLabCommands(program: Command): void {
  const lab = declareCommand(program, 'lab');
  lab
    .command('prepare')
    .description('fetch QEMU and a kernel into the cache, outside the clone; what is there already is kept')
    .option('--kernel <name>', KERNEL_OPTION, kernelOption, 'distribution')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `${KERNEL_HELP}
${CACHE_HELP}

Examples:
  barter lab prepare
  barter lab prepare --kernel iommufd
  BARTER_CACHE=/var/cache/barter barter lab prepare`,
    )
    .action(({ kernel, json }: KernelOptions) => reported(() => prepare(kernel, json === true)));
  lab
    .command('run')
    .argument('<name>', Object.keys(RUNS).join(', '))
    .description('boot the guest with served devices, and run something in it')
    .option('--kernel <name>', KERNEL_OPTION, kernelOption, 'distribution')
    .option('--leak-check', LEAK_CHECK_OPTION)
    .option('--seconds <n>', 'how long peer-load goes on (default: 60)', numberOption)
    .option('--seed <n>', 'which random choices peer-load makes (printed)', numberOption)
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
Runs:
${Object.entries(RUNS)
  .map(([name, { describe }]) => `  ${name.padEnd(16)} ${describe}`)
  .join('\n')}
${KERNEL_HELP}

Examples:
  barter lab run guest-export
  barter lab run guest-export --kernel debug --json
  barter lab run peer-load --seconds 20`,
    )
    .action((name: string, options: RunOptions) => reported(() => run(name, options)));
  addDiffCommand(lab);
  addShellCommand(lab);
  lab
    .command('clean')
    .description('remove the cache')
    .addHelpText('after', CACHE_HELP)
    .action(() => rmSync(labCache(), { recursive: true, force: true }));
  for (const command of lab.commands) command.exitOverride();
}

function addShellCommand(lab: Command): void {
  lab
    .command('shell')
    .argument('[command]', "one command of the guest's shell; without it, each line of the input is one")
    .description('boot a guest with served devices, the lender bound to vfio-pci, and run commands in it')
    .option('--kernel <name>', KERNEL_OPTION, kernelOption, 'distribution')
    .option('--json', 'print a JSON document for each command, and one for what the kernel complained of')
    .addHelpText(
      'after',
      `
The guest sees this machine's files, read-only, and ends with the input. The status is that of the one command, or 1
where the kernel complained of something.
${KERNEL_HELP}

Examples:
  barter lab shell
  barter lab shell 'cat /sys/bus/pci/devices/0000:01:00.0/resource'
  barter lab shell --kernel iommufd 'ls /dev/iommu /dev/vfio/devices'`,
    )
    .action((command: string | undefined, { kernel, json }: KernelOptions) =>
      reported(async () => {
        await prepareMissing(kernel, json === true);
        await shell(command, kernel, json === true);
      }),
    );
}

function addDiffCommand(lab: Command): void {
  lab
    .command('diff')
    .description('scenarios and random programs on the engine and on the kernel, compared step by step')
    .option('--steps <n>', 'how many steps of random programs, over all lenders', numberOption, 5000)
    .option('--seed <n>', 'which programs (printed; the same seed gives the same)', numberOption)
    .option('--kernel <name>', KERNEL_OPTION, kernelOption, 'distribution')
    .option('--leak-check', LEAK_CHECK_OPTION)
    .option('--matrix [stages]', 'every trigger after every other, too, and what the kernel breaks there')
    .option(
      '--lender <names>',
      `which devices lend: ${lendersOf('iommufd')
        .map(({ name }) => name)
        .join(', ')}`,
    )
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
First come the scenarios that are kept (lab/facts, lab/findings), then random programs. Each difference
is shrunk to a short program. Exits with 1 when there is one that is no finding of docs/kernel-findings.md.

--matrix takes every trigger after every other with a buffer that is in one of the stages of its life, going round:
about 6 minutes a lender. --matrix all takes each pair in each stage, --matrix STAGE,... in these: 5 minutes a stage.
The stages: ${STAGES.join(', ')}.
${KERNEL_HELP}

Examples:
  barter lab diff
  barter lab diff --kernel debug --steps 500
  barter lab diff --lender barter --steps 0 --matrix
  barter lab diff --lender passthrough --steps 0 --matrix exported,attached
  barter lab diff --lender barter,igb --steps 500 --seed 7 --json`,
    )
    .action((options: DiffCommandOptions) =>
      reported(async () => {
        demandLeakCheck(options);
        await diff(options);
      }),
    );
}

const KERNEL_OPTION = `which kernel: ${KERNELS.map(({ name }) => name).join(', ')}`;
const LEAK_CHECK_OPTION = 'with --kernel debug: look for memory that the kernel has lost, before it ends';

const KERNEL_HELP = `
Kernels:
${KERNELS.map(({ name, describe }) => `  ${name.padEnd(16)} ${describe}`).join('\n')}

iommufd and debug are built from the distribution's source when they are first asked for: 4 to 7 minutes each on two
cores. What a kernel complains of on its console (KASAN, lockdep, kmemleak, hung tasks, warnings) is listed in the
JSON as reports, and fails the command where docs/kernel-findings.md does not describe it.`;

const CACHE_HELP = `
The cache is $BARTER_CACHE/lab, else $XDG_CACHE_HOME/barter/lab, else ~/.cache/barter/lab; about 2 GB, and 3 GB more for
kernels that are built.
BARTER_MIRROR names a Debian mirror where apt's own sources name none. BARTER_SUITE=forky makes and uses a lab of that
release beside it, in lab-forky: another QEMU, another kernel.`;

interface KernelOptions {
  kernel: KernelName;
  json?: true;
}

interface RunOptions extends KernelOptions {
  leakCheck?: true;
  seconds?: number;
  seed?: number;
}

function kernelOption(text: string): KernelName {
  const kernel = findKernel(text);
  if (kernel === undefined) {
    throw new UsageError(`there is no kernel ${text}; there are: ${KERNELS.map(({ name }) => name).join(', ')}`);
  }
  return kernel.name;
}

function demandLeakCheck({ kernel, leakCheck }: Pick<RunOptions, 'kernel' | 'leakCheck'>): void {
  if (leakCheck === true && kernel !== 'debug') {
    throw new UsageError('--leak-check needs a kernel with kmemleak: --kernel debug');
  }
}

function numberOption(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0) throw new UsageError(`${text} is no number`);
  return value;
}

/** What could not be done is a sentence, not a stack. */
async function reported(action: () => Promise<void>): Promise<void> {
  try {
    await action();
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    console.error(`barter: ${error.message}`);
    process.exitCode = 1;
  }
}

async function run(name: string, options: RunOptions): Promise<void> {
  const { kernel, leakCheck, seconds, seed } = options;
  const json = options.json === true;
  demandLeakCheck(options);
  const wanted = RUNS[name];
  if (wanted === undefined)
    throw new UsageError(`there is no lab run ${name}; there are: ${Object.keys(RUNS).join(', ')}`);
  await prepareMissing(kernel, json);
  const onStep = (step: LabStep) => {
    if (!json) printStep(step);
  };
  const result = await wanted.run({ kernel, leakCheck: leakCheck === true, seconds, seed, onStep });
  if (!result.ok) process.exitCode = 1;
  if (json) return console.log(JSON.stringify(result));
  printReports(result.reports);
  console.log(`\n${result.ok ? 'All as expected' : 'NOT as expected'}: QEMU ${result.qemu}, Linux ${result.kernel}.`);
}

function printStep({ name, ok, ms, expected, seen }: LabStep): void {
  const time = ms === 0 ? '' : `${ms.toFixed(0)} ms`;
  const text = (value: unknown) => (typeof value === 'string' ? value : JSON.stringify(value));
  const what = ok ? text(seen ?? '') : `expected ${text(expected)}, seen ${text(seen)}`;
  console.log(`${ok ? '  ok  ' : 'FAILED'}  ${name.padEnd(44)} ${time.padStart(8)}  ${what}`);
}
