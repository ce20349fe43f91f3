/** The kernels that `barter lab patch` has made: a lab kernel's source with a series of changes. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { labPath } from '../host/cache.ts';
import { WrongUse } from '../host/command.ts';
import { kernelKey } from './build.ts';
import { type BuiltKernel, IMAGE_OF, type LabKernel } from './kernel.ts';
import { KERNELS } from './named.ts';
import { seriesKey } from './series.ts';

/** The inputs of a patched kernel. */
export interface PatchedManifest {
  name: string;
  base: BuiltKernel;
  baseKey: string;
  series: string;
  seriesKey: string;
  titles: string[];
}

/** The folder of a patched kernel: its image, its symbols, and manifest.json. */
export function patchedFolder(name: string): string {
  return labPath('patched', name);
}

function patchedNames(): string[] {
  const folder = labPath('patched');
  if (!existsSync(folder)) return [];
  return readdirSync(folder).filter((name) => existsSync(join(folder, name, 'manifest.json')));
}

/** Returns null if no patched kernel has that name. Throws WrongUse if its inputs have changed since. */
export function findPatchedKernel(name: string): LabKernel | null {
  if (!patchedNames().includes(name)) return null;
  const folder = patchedFolder(name);
  const manifest = JSON.parse(readFileSync(join(folder, 'manifest.json'), 'utf8')) as PatchedManifest;
  const again = `run: barter lab patch ${manifest.series} --kernel ${manifest.base}`;
  if (manifest.baseKey !== kernelKey(manifest.base)) {
    throw new WrongUse(`the kernel ${name} was made of an older ${manifest.base}; ${again}`);
  }
  if (existsSync(manifest.series) && manifest.seriesKey !== seriesKey(manifest.series)) {
    throw new WrongUse(`${manifest.series} has changed since the kernel ${name} was built; ${again}`);
  }
  const base = KERNELS.find((kernel) => kernel.name === manifest.base)!;
  return {
    ...base,
    name,
    describe: `${manifest.base} with ${manifest.titles.join('; ')}`,
    image: () => join(folder, IMAGE_OF[manifest.base]),
    symbols: () => (existsSync(join(folder, 'vmlinux')) ? join(folder, 'vmlinux') : null),
    moduleBuild: () => null,
  };
}
