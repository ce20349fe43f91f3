/** The pages that an Intel IOMMU translates for a device, read from its debugfs (CONFIG_INTEL_IOMMU_DEBUGFS). */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { normalizeBdf } from './sysfs.ts';

const DEBUGFS = '/sys/kernel/debug/iommu/intel';
const PAGE_BITS = 12n;
/** VT-d, "Second-Stage Paging Entries": the address of a page or table is bits 51:12. */
const ADDRESS_MASK = 0x000f_ffff_ffff_f000n;
/** A line has an entry for each level from the fifth on; the last is the page's. 4 KiB at the first level. */
const LEVELS = 5;
const BITS_PER_LEVEL = 9;

export interface IommuPage {
  iova: number;
  sizeBytes: number;
  /** The host physical address. */
  address: number;
}

/** Returns the pages that are mapped for a device now, in order of IOVA. Needs root; throws the errors of reading. */
export function readIommuPages(bdf: string, root = DEBUGFS): IommuPage[] {
  const text = readFileSync(join(root, normalizeBdf(bdf), 'domain_translation_struct'), 'utf8');
  return text.split('\n').flatMap((line) => {
    const [place, entries] = line.split('|');
    if (entries === undefined) return [];
    const path = entries.trim().split(/\s+/);
    const leaf = BigInt(path[path.length - 1]);
    return [
      {
        iova: Number(BigInt(place.trim()) << PAGE_BITS),
        sizeBytes: 4096 * 2 ** (BITS_PER_LEVEL * (LEVELS - path.length)),
        address: Number(leaf & ADDRESS_MASK),
      },
    ];
  });
}
