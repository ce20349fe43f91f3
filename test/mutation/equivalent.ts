/** Mutants that no test can tell from the original, each with the reason. A mutant is known by its texts. */
import type { Mutant } from './mutants.ts';

export interface Equivalent {
  file: string;
  original: string;
  replacement: string;
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
];

export function reasonOf(mutant: Mutant): string | null {
  const same = ({ file, original, replacement }: Equivalent) =>
    file === mutant.file && original === mutant.original && replacement === mutant.replacement;
  return EQUIVALENT.find(same)?.why ?? null;
}
