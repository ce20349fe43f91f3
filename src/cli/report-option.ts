/** --report ktap|junit[=FILE]: a report for CI systems, beside or in place of the text. */
import { type Command, Option } from 'commander';
import type { KernelReport } from '../../lab/kernel/reports.ts';
import { parseReportTarget, type ReportTarget, type SuiteReport, writeReport } from '../report/test-report.ts';
import { demandWritable } from './files.ts';
import { UsageError } from './usage.ts';

export interface ReportOptions {
  report?: ReportTarget;
  json?: true;
}

export function addReportOption(command: Command): Command {
  const option = new Option('--report <format>', 'ktap or junit, to standard output; ktap=FILE, junit=FILE to a file');
  return command.addOption(option.argParser(reportOption));
}

function reportOption(text: string): ReportTarget {
  const target = parseReportTarget(text);
  if (target === null)
    throw new UsageError(`--report ${text} is not a report: write ktap, junit, ktap=FILE or junit=FILE`);
  if (target.file !== null) demandWritable(target.file, `--report ${target.format}=FILE`);
  return target;
}

/** Whether standard output is only for a document. */
export function isQuiet({ report, json }: ReportOptions): boolean {
  return json === true || report?.file === null;
}

/** Writes the requested report. A kernel's complaints are a separate suite. */
export async function reportSuites(
  { report }: ReportOptions,
  name: string,
  suites: readonly SuiteReport[],
  kernel: readonly KernelReport[] = [],
): Promise<void> {
  if (report === undefined) return;
  const complaints: SuiteReport = {
    name: "the kernel's console",
    cases: kernel.map(({ kind, title, documented, text }) => ({
      name: `${kind}: ${title}`,
      verdict: documented === null ? 'fail' : 'skip',
      text: documented === null ? text : `known: ${documented}`,
    })),
  };
  await writeReport(report, name, kernel.length === 0 ? suites : [...suites, complaints]);
}
