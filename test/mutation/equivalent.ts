/** Mutants that no test can tell from the original, each with the reason. A mutant is known by its texts. */
import type { Mutant } from './mutants.ts';

export interface Equivalent {
  file: string;
  original: string;
  replacement: string;
  /** What the mutant's line has, where the file has the same text at several places. */
  on?: string;
  why: string;
}

export const EQUIVALENT: readonly Equivalent[] = [
  {
    file: 'src/iommu/range-map.ts',
    original: 'to < block.starts.length',
    replacement: 'true',
    why: 'behind the last range, starts[to] is undefined, which is below nothing',
  },
  {
    file: 'src/pci/function.ts',
    original: 'this.resets += 1',
    replacement: 'this.resets -= 1',
    why: 'the number is compared with an earlier one, and only whether they differ counts',
  },
  {
    file: 'src/vfio/driver.ts',
    original: 'pdev.physfn === null',
    replacement: 'false',
    why: 'the map has no entry for null, and answers as for a function that it does not know',
  },
  {
    file: 'src/vfio/dmabuf.ts',
    original: "'vfio_pci_dma_buf.awaited'",
    replacement: '""',
    why: 'a name for messages of races',
  },
  {
    file: 'src/vfio/mmap.ts',
    original: 'offset + sizeBytes',
    replacement: 'offset - sizeBytes',
    on: 'throw new Errno',
    why: 'in the text of the error',
  },
  {
    file: 'src/vfio-user/monitor/counters.ts',
    original: 'command < 64',
    replacement: 'false',
    why: 'the table of small commands is a faster copy of the map',
  },
  {
    file: 'src/vfio-user/monitor/snapshot.ts',
    original: 'task.pending?.object',
    replacement: 'task.pending.object',
    why: 'a task that waits has an operation; the type does not know that',
  },
];

export function reasonOf(mutant: Mutant): string | null {
  const same = ({ file, original, replacement, on = '' }: Equivalent) =>
    file === mutant.file &&
    original === mutant.original &&
    replacement === mutant.replacement &&
    mutant.lineText.includes(on);
  return EQUIVALENT.find(same)?.why ?? null;
}
