/** barter lab run: the lab's demonstrations, by name. */
import type { Command } from 'commander';
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
import { virtioGpu } from '../../lab/runs/screen/virtio-gpu.ts';
import { paint } from '../report/colour.ts';
import { timedStepText } from '../report/lines.ts';
import { addHttpOption, httpAddress, keepPage } from './http-option.ts';
import {
  addRigOptions,
  demandLeakCheck,
  KERNEL_HELP,
  LEAK_CHECK_OPTION,
  numberOption,
  type RigOptions,
  reported,
  takeRig,
} from './lab-options.ts';
import { LabPage } from './lab-page.ts';
import { printReports } from './lab-reports.ts';
import { addReportOption, isQuiet, type ReportOptions, reportSuites } from './report-option.ts';
import { runSuite } from './suites.ts';
import { known } from './usage.ts';

type LabRun = (options: LabOptions) => Promise<LabResult>;

/** The runs of `barter lab run`, by name. */
const RUNS: Record<string, { describe: string; run: LabRun }> = {
  'guest-export': {
    describe: "the guest's vfio-pci exports a served device's BAR, loses it and regains it",
    run: guestExport,
  },
  'guest-capture': {
    describe: "the guest's devices, captured from its sysfs, served, and captured again in a guest that has them",
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
  'virtio-gpu': {
    describe: "the kernel's virtio_gpu shows a lent BAR on a screen, until each trigger takes the BAR back",
    run: virtioGpu,
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
    describe: 'with --kernel debug: sets off each detector, and must fail as any run with a report does',
    run: canary,
  },
};

/** For completion. */
export const labRunNames = (): string[] => Object.keys(RUNS);

interface LabRunOptions extends RigOptions, ReportOptions {
  json?: true;
  leakCheck?: true;
  seconds?: number;
  seed?: number;
  http?: string;
}

export function addRunCommand(lab: Command): void {
  const command = lab
    .command('run')
    .argument('<name>', Object.keys(RUNS).join(', '))
    .description('boot the guest with served devices, and run something in it')
    .option('--leak-check', LEAK_CHECK_OPTION)
    .option('--seconds <n>', 'how long peer-load goes on (default: 60)', numberOption)
    .option('--seed <n>', 'which random choices peer-load makes (printed)', numberOption)
    .option('--json', 'print one JSON document');
  addHttpOption(command, "show the guest's console and the steps on a live page");
  addRigOptions(addReportOption(command))
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
    .action((name: string, options: LabRunOptions) => reported(() => run(name, options)));
}

async function run(name: string, options: LabRunOptions): Promise<void> {
  const { leakCheck, seconds, seed } = options;
  const json = isQuiet(options);
  const wanted = RUNS[known('lab run', name, Object.keys(RUNS))];
  httpAddress(options.http);
  const { kernel, accel } = await takeRig(options);
  demandLeakCheck(kernel, leakCheck);
  const page = await LabPage.open(options.http, `barter lab run ${name}`);
  const onStep = (step: LabStep) => {
    if (!json) printStep(step);
    page?.step(step);
  };
  const onConsole = page?.onConsole;
  const result = await wanted.run({ kernel, accel, leakCheck: leakCheck === true, seconds, seed, onStep, onConsole });
  if (!result.ok) process.exitCode = 1;
  await reportSuites(options, 'barter lab run', [runSuite(name, result)], result.reports);
  if (options.json === true) console.log(JSON.stringify(result));
  else if (!json) printResult(result);
  page?.ended(result.ok, `QEMU ${result.qemu}, Linux ${result.kernel}`);
  await keepPage(page?.page ?? null);
}

function printResult(result: LabResult): void {
  printReports(result.reports);
  const verdict = result.ok ? paint('good', 'All as expected') : paint('bad', 'NOT as expected');
  console.log(`\n${verdict}: QEMU ${result.qemu}, Linux ${result.kernel}.`);
}

function printStep({ name, ok, ms, expected, seen }: LabStep): void {
  const text = (value: unknown) => (typeof value === 'string' ? value : JSON.stringify(value));
  const detail = ok ? text(seen ?? '') : `expected ${text(expected)}, seen ${text(seen)}`;
  console.log(timedStepText({ name, ok, ms, detail }));
}
