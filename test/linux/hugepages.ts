/** A pool of huge pages for a test, if root can have one on this machine. */

import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { MFD_ALLOW_SEALING, MFD_CLOEXEC, MFD_HUGETLB } from '../../src/abi/mman.ts';
import { OwnedFd } from '../../src/linux/fd.ts';
import { check, sys } from '../../src/linux/ffi.ts';

/** The default huge page of x86 and arm64. */
export const HUGE = 2 << 20;
const POOL = '/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages';

/**
 * Adds `pages` huge pages to the pool until the test ends. Returns false, with a message, if that is impossible: the
 * kernel has none, the user lacks the right, or memory has no free piece of that size. Throws in CI if CI has
 * everything for a pool.
 */
export function withHugePages(t: TestContext, pages: number): boolean {
  const change = (by: number) => writeFileSync(POOL, String(Number(readFileSync(POOL, 'utf8')) + by));
  let why = 'this kernel has no huge pages of 2 MiB';
  if (existsSync(POOL)) {
    try {
      const before = freeHugePages();
      change(pages);
      t.after(() => change(-pages));
      if (freeHugePages() >= before + pages) return true;
      why = `the kernel gave ${freeHugePages() - before} huge pages of ${pages}`;
    } catch (error) {
      why = `the pool of huge pages cannot be changed (${(error as Error).message})`;
    }
  }
  isMissing(t, why, existsSync(POOL));
  return false;
}

/** Skips the test with its reason; throws if CI has everything to run it. */
function isMissing(t: TestContext, why: string, isInKernel: boolean): void {
  const mayBeRoot = process.getuid?.() === 0 || spawnSync('sudo', ['-n', 'true']).status === 0;
  if (process.env.CI !== undefined && isInKernel && mayBeRoot) throw new Error(`${why}; run this test as root`);
  console.error(`NOT TESTED: "${t.name}": ${why}`);
  t.skip(why);
}

/** The number of free huge pages. */
export function freeHugePages(): number {
  return Number(readFileSync(POOL.replace('nr_', 'free_'), 'utf8'));
}

/** A memfd of so many huge pages. */
export function hugeMemfd(pages: number, flags = MFD_ALLOW_SEALING, name = 'test'): OwnedFd {
  const fd = check(sys.memfd_create(name, flags | MFD_HUGETLB | MFD_CLOEXEC), () => 'memfd_create(MFD_HUGETLB)');
  const memfd = new OwnedFd(fd, `huge memfd ${name}`);
  check(sys.ftruncate(fd, pages * HUGE), () => 'ftruncate of a huge memfd');
  return memfd;
}

/** Mounts a file system of that type until the test ends; returns null if that is impossible. */
export function mounted(t: TestContext, type: 'hugetlbfs' | 'tmpfs', ...options: string[]): string | null {
  const folder = mkdtempSync(join(tmpdir(), `barter-${type}-`));
  const { status, stderr } = spawnSync('mount', ['-t', type, ...options, 'none', folder], { encoding: 'utf8' });
  t.after(() => {
    if (status === 0) spawnSync('umount', ['-l', folder]);
    rmdirSync(folder);
  });
  if (status === 0) return folder;
  isMissing(t, `${type} cannot be mounted: ${stderr}`, false);
  return null;
}
