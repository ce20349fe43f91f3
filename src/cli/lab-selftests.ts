/** barter lab selftests: runs Linux's own tests of vfio on served devices. */
import type { Command } from 'commander';
import { selftestPrograms } from '../../lab/kernel/selftests-build.ts';
import { labSelftests, type SelftestSuite } from '../../lab/runs/selftests.ts';
import { addRigOptions, KERNEL_HELP, type RigOptions, reported, takeRig } from './lab-options.ts';
import { printReports } from './lab-reports.ts';
import { addReportOption, isQuiet, type ReportOptions, reportSuites } from './report-option.ts';
import { selftestSuites } from './suites.ts';
import { known } from './usage.ts';

export function addSelftestsCommand(lab: Command): void {
  const command = lab
    .command('selftests')
    .argument('[program...]', 'such as vfio_pci_device_test; all of them without')
    .description("Linux's own vfio selftests on the lender, the I/OAT engine and QEMU's igb")
    .option('--json', 'print one JSON document');
  addRigOptions(addReportOption(command))
    .addHelpText(
      'after',
      `
They are built from the source of the distribution's kernel. docs/selftests.md has what passes, and why the rest does
not.
${KERNEL_HELP}

Examples:
  barter lab selftests
  barter lab selftests vfio_dma_mapping_test --kernel iommufd --json`,
    )
    .action((programs: string[], options: RigOptions & ReportOptions) => reported(() => selftests(programs, options)));
}

async function selftests(only: string[], options: RigOptions & ReportOptions): Promise<void> {
  const isJson = isQuiet(options);
  const { kernel, accel } = await takeRig(options, ['selftests']);
  const programs = [...selftestPrograms().keys()];
  for (const name of only) known('selftest', name, programs);
  const onSuite = (suite: SelftestSuite): void => {
    if (!isJson) printSuite(suite);
  };
  const result = await labSelftests({ kernel, accel, only, onSuite });
  if (!result.ok) process.exitCode = 1;
  await reportSuites(options, 'barter lab selftests', selftestSuites(result.suites), result.reports);
  if (options.json === true) return console.log(JSON.stringify(result));
  if (isJson) return;
  printReports(result.reports);
  const sum = (of: (suite: SelftestSuite) => number): number => result.suites.reduce((all, each) => all + of(each), 0);
  const counts = `${sum(({ passed }) => passed)} passed, ${sum(({ failed }) => failed)} failed`;
  console.log(`\n${counts}, ${sum(({ skipped }) => skipped)} skipped: Linux ${result.kernel}.`);
}

function printSuite({ name, passed, failed, skipped, failures, skips }: SelftestSuite): void {
  const column = (count: number): string => String(count).padStart(3);
  const counts = `${column(passed)} passed ${column(failed)} failed ${column(skipped)} skipped`;
  console.log(`${failed === 0 ? '  ok  ' : 'FAILED'}  ${name.padEnd(46)} ${counts}`);
  for (const failure of failures) {
    console.log(`          ${failure.name}:\n            ${failure.text.replaceAll('\n', '\n            ')}`);
  }
  const reasons = new Map<string, number>();
  for (const { reason } of skips) reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
  for (const [reason, count] of reasons) console.log(`          ${count} skipped: ${reason}`);
}
