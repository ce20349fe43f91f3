/** Which sources and tests a mutation run takes. */
import { readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { COVERED_BY } from '../tidy/covered-by.ts';

export const FOLDERS = ['iommu', 'pci', 'dma-buf', 'vfio', 'vfio-user', 'explore'] as const;

function filesBelow(root: string, folder: string, ending: string): string[] {
  return readdirSync(join(root, folder), { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(ending))
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length))
    .sort();
}

/** `root` ends with a slash. A path may be a file or a folder. */
export function sourcesOf(root: string, paths: readonly string[]): string[] {
  return paths.flatMap((path) => (path.endsWith('.ts') ? [path] : filesBelow(root, path, '.ts')));
}

/** Folders of test/ that use a folder of src/ so closely that they test it too. */
const ALSO: Readonly<Record<string, readonly string[]>> = {
  iommu: ['pci'],
  pci: ['iommu', 'device', 'vfio'],
  'dma-buf': ['vfio', 'linux'],
};

/**
 * Tests of a folder of src/: those of the same folder of test/, those that covered-by.ts names for its files, and those
 * of folders that use it closely, unless only near ones are wanted.
 */
export function testsOf(root: string, sources: readonly string[], nearOnly: boolean): string[] {
  const folders = new Set(sources.map((source) => source.split('/')[1]));
  const named = Object.entries(COVERED_BY)
    .filter(([entry]) => folders.has(entry.split('/')[0]))
    .flatMap(([, tests]) => tests.map((test) => `test/${test}`));
  const close = [...folders].flatMap((folder) => [folder, ...(nearOnly ? [] : (ALSO[folder] ?? []))]);
  const mirrored = close.flatMap((folder) => filesBelow(root, `test/${folder}`, '.test.ts'));
  return [...new Set([...mirrored, ...named])].filter((test) => !test.startsWith('test/lab/'));
}

/** Tests in the order in which they shall run: the one of the source's name first, then the fastest. */
export function inOrder<T extends { test: string; ms: number }>(source: string, tests: readonly T[]): T[] {
  const isOwn = (test: string) => basename(test, '.test.ts') === basename(source, '.ts');
  return [...tests].sort((a, b) => Number(isOwn(b.test)) - Number(isOwn(a.test)) || a.ms - b.ms);
}
