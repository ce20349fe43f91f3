/** A kernel's complaints, for a terminal. */
import type { KernelReport } from '../../lab/kernel/reports.ts';

/** Prints reports of one kind that differ only in numbers once, with their count. */
export function printReports(reports: readonly KernelReport[], output: NodeJS.WritableStream = process.stdout): void {
  const alike = new Map<string, KernelReport[]>();
  for (const report of reports) {
    const key = `${report.kind} ${report.documented} ${report.title.replaceAll(/(0x)?[0-9a-f]*\d[0-9a-f]*/g, 'N')}`;
    alike.set(key, [...(alike.get(key) ?? []), report]);
  }
  for (const [{ kind, title, documented, text }, ...others] of alike.values()) {
    const times = others.length === 0 ? '' : `, ${others.length + 1} times`;
    if (documented !== null) output.write(`\nknown (${documented})${times}: ${kind}: ${title}\n`);
    else output.write(`\nthe kernel reports (${kind}${times}):\n  ${text.split('\n').join('\n  ')}\n`);
  }
}
