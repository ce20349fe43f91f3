/** barter lab peer-tests: runs libvfio-user's own tests against Barter's server. */
import type { Command } from 'commander';
import { DISTRIBUTION } from '../../lab/kernel/named.ts';
import { hasSuite, runSuite, type SuiteFile, type SuiteRun } from '../../lab/peers/suite/run.ts';
import type { SuiteTest } from '../../lab/peers/suite/session.ts';
import { reported } from './lab-options.ts';
import { prepareMissing } from './lab-prepare.ts';
import { addReportOption, isQuiet, type ReportOptions, reportSuites } from './report-option.ts';
import { peerSuites } from './suites.ts';

export function addPeerTestsCommand(lab: Command): void {
  const command = lab
    .command('peer-tests')
    .argument('[file...]', 'such as test_dma_map; all of them without')
    .description("libvfio-user's own tests, with Barter's server in the place of its library")
    .option('--json', 'print one JSON document');
  addReportOption(command)
    .addHelpText(
      'after',
      `
The tests come with the distribution's source of QEMU (barter lab peers). docs/peer-tests.md has what they found, and
why some cannot be run or fail on purpose.

Examples:
  barter lab peer-tests
  barter lab peer-tests test_dma_unmap test_request_errors
  barter lab peer-tests --json`,
    )
    .action((files: string[], options: ReportOptions) => reported(() => peerTests(files, options)));
}

async function peerTests(only: string[], options: ReportOptions): Promise<void> {
  const isJson = isQuiet(options);
  if (!hasSuite()) await prepareMissing(DISTRIBUTION, isJson, ['peers']);
  const onFile = (file: SuiteFile): void => {
    if (!isJson) printFile(file);
  };
  const run = await runSuite({ only, onFile });
  if (!run.ok) process.exitCode = 1;
  await reportSuites(options, 'barter lab peer-tests', peerSuites(run.files));
  if (options.json === true) return console.log(JSON.stringify(run));
  if (!isJson) printTotals(run);
}

function printFile({ name, tests }: SuiteFile): void {
  const of = (verdict: SuiteTest['verdict']): SuiteTest[] => tests.filter((test) => test.verdict === verdict);
  const column = (verdict: SuiteTest['verdict'], word: string): string =>
    `${String(of(verdict).length).padStart(3)} ${word}`;
  const failed = of('fail');
  const counts = [column('pass', 'passed'), column('differs', 'differ'), column('not-portable', 'not portable')];
  console.log(`${failed.length === 0 ? '  ok  ' : 'FAILED'}  ${name.padEnd(40)} ${counts.join(' ')}`);
  for (const test of failed) console.log(`          ${test.name}:\n            ${test.failed}`);
  for (const test of of('differs')) console.log(`          ${test.name} differs: ${test.reason}`);
  const reasons = new Map<string, number>();
  for (const { reason } of of('not-portable')) reasons.set(reason!, (reasons.get(reason!) ?? 0) + 1);
  for (const [reason, count] of reasons) console.log(`          ${count} not portable: ${reason}`);
}

function printTotals({ passed, differs, failed, notPortable }: SuiteRun): void {
  const portable = passed + differs + failed;
  console.log(
    `\n${portable} portable tests: ${passed} passed, ${differs} differ on purpose, ${failed} failed. ` +
      `${notPortable} not portable.`,
  );
}
