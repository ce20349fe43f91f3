/**
 * Finds a kernel's complaints on its console: memory errors, lock inversions, hung tasks, leaks, warnings and oopses.
 * Each is a finding of its own, whatever the results of the steps were.
 */

export interface KernelReport {
  kind: 'KASAN' | 'lockdep' | 'hung task' | 'kmemleak' | 'warning' | 'oops';
  /** The report's own first line. */
  title: string;
  /** The whole report without timestamps. */
  text: string;
  /** The place that describes a known report. */
  documented: string | null;
}

/** The beginnings of reports. The first match gives the kind. */
const BEGINNINGS: readonly [KernelReport['kind'], RegExp][] = [
  ['KASAN', /^BUG: KASAN: /],
  ['lockdep', /^WARNING: (possible |inconsistent |suspicious |bad |nested |held lock|lock held)/],
  ['lockdep', /^(BUG: (sleeping function called|Invalid wait context)|\[ BUG: |BUG: .* still has locks held)/],
  ['hung task', /^INFO: (task .* blocked for more than|rcu.* detected stalls)|^watchdog: BUG: soft lockup/],
  ['kmemleak', /^unreferenced object 0x/],
  ['oops', /^(BUG: |Oops: |general protection fault|kernel BUG at |Kernel panic)/],
  ['warning', /^WARNING: /],
];

/** Reports that docs/kernel-findings.md describes, recognised by their text. */
const DOCUMENTED: readonly { kind: KernelReport['kind']; text: RegExp; where: string }[] = [
  {
    kind: 'kmemleak',
    text: /\bsg_alloc_table\+.*\n *dma_buf_phys_vec_to_sgt\+/,
    where: 'lab/findings/08-a-mapping-leaks.yaml',
  },
  {
    kind: 'warning',
    text: /^WARNING: .* at iova_magazine_free_pfns[\s\S]*\bdma_buf_phys_vec_to_sgt\+/,
    where: 'lab/findings/09-a-failed-map-frees-iova-0.yaml',
  },
  {
    kind: 'KASAN',
    text: /^BUG: KASAN: slab-use-after-free in __get_file_rcu\+[\s\S]*\bvfio_pci_dma_buf_(move|cleanup)\+/,
    where: 'lab/findings/14-a-path-outlives-the-file.yaml',
  },
  {
    kind: 'warning',
    text: /^WARNING: .* at pci_iov_update_resource\+/,
    where: 'docs/kernel-findings.md, 13',
  },
  {
    kind: 'hung task',
    text: /\bvirtio_gpu_detach_object_fenced\+[\s\S]*\bvfio_pci_dma_buf_move\+/,
    where: 'docs/kernel-findings.md, 10',
  },
];

const TIMESTAMP = /^\[\s*\d+\.\d+\](\[\s*[TC]\d+\])? ?/;
/** The most lines of a report. Later lines belong to something else. */
const MAX_LINES = 120;

/** The reports in a console's text, in order. */
export function kernelReports(consoleText: string): KernelReport[] {
  const lines = consoleText.split(/\r?\n/).map((line) => line.replace(TIMESTAMP, ''));
  const reports: KernelReport[] = [];
  let end = 0;
  for (const [at, title] of lines.entries()) {
    const kind = BEGINNINGS.find(([, pattern]) => pattern.test(title))?.[0];
    if (kind === undefined || at < end) continue;
    end = endOfReport(lines, at);
    const text = lines.slice(at, end).join('\n').trimEnd();
    const known = DOCUMENTED.find((entry) => entry.kind === kind && entry.text.test(text));
    reports.push({ kind, title, text, documented: known?.where ?? null });
  }
  return reports;
}

/** A report ends with its trace, or at the next beginning. */
function endOfReport(lines: readonly string[], at: number): number {
  const most = Math.min(lines.length, at + MAX_LINES);
  for (let end = at + 1; end < most; end++) {
    if (/^(---\[ end trace|={40,}$)/.test(lines[end])) return end + 1;
    // An oops names its kind after its first line.
    if (!lines[end].startsWith('Oops: ') && BEGINNINGS.some(([, pattern]) => pattern.test(lines[end]))) return end;
  }
  return most;
}

/** The reports that no document describes. A run with one of them has failed. */
export function undocumented(reports: readonly KernelReport[]): KernelReport[] {
  return reports.filter((report) => report.documented === null);
}
