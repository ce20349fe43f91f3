/** What a kernel complained of, for who looks at a terminal. */
import type { KernelReport } from '../../lab/kernel/reports.ts';

export function printReports(reports: readonly KernelReport[]): void {
  for (const { kind, title, documented, text } of reports) {
    if (documented !== null) console.log(`\nknown (${documented}): ${kind}: ${title}`);
    else console.log(`\nthe kernel reports (${kind}):\n  ${text.split('\n').join('\n  ')}`);
  }
}
