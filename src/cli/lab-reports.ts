/** What a kernel complained of, for who looks at a terminal. */
import type { KernelReport } from '../../lab/kernel/reports.ts';

export function printReports(reports: readonly KernelReport[], output: NodeJS.WritableStream = process.stdout): void {
  for (const { kind, title, documented, text } of reports) {
    if (documented !== null) output.write(`\nknown (${documented}): ${kind}: ${title}\n`);
    else output.write(`\nthe kernel reports (${kind}):\n  ${text.split('\n').join('\n  ')}\n`);
  }
}
