/** The kernels of the lab: the distribution's own, and two that are built from its source. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { labPath } from '../host/cache.ts';
import { CommandError } from '../host/command.ts';

export type KernelName = 'distribution' | 'iommufd' | 'debug';

export interface LabKernel {
  name: KernelName;
  describe: string;
  /** What QEMU boots. CommandError where it is not there yet. */
  image: () => string;
  /** On its command line, behind what all of them have. */
  append: readonly string[];
  /** Whether it has modules, the importer among them; otherwise all that the lab needs is built in. */
  modular: boolean;
  /** How much longer than the distribution's it takes for everything. */
  slowness: number;
}

export const KERNELS: readonly LabKernel[] = [
  {
    name: 'distribution',
    describe: "the distribution's own kernel, with its modules",
    image: distributionImage,
    append: [],
    modular: true,
    slowness: 1,
  },
  {
    name: 'iommufd',
    describe: 'with IOMMUFD, whose address spaces import dma-bufs; boots in two seconds',
    // Its ELF image boots by PVH, without being unpacked first.
    image: () => builtImage('iommufd', 'vmlinux'),
    append: [],
    modular: false,
    slowness: 1,
  },
  {
    name: 'debug',
    describe: 'with KASAN, lockdep, kmemleak and the detector of hung tasks',
    image: () => builtImage('debug', 'bzImage'),
    // KASAN reports once without.
    append: ['kasan_multi_shot'],
    modular: false,
    slowness: 4,
  },
];

/** A kernel by its name; undefined where there is none. */
export function findKernel(name: string): LabKernel | undefined {
  return KERNELS.find((kernel) => kernel.name === name);
}

/** Where the stage that builds a kernel leaves it. */
export function builtImagePath(name: KernelName, file: 'vmlinux' | 'bzImage'): string {
  return labPath('kernels', name, file);
}

function builtImage(name: KernelName, file: 'vmlinux' | 'bzImage'): string {
  const path = builtImagePath(name, file);
  if (!existsSync(path)) throw missing(`there is no kernel ${name} in the lab`, ` --kernel ${name}`);
  return path;
}

/** The release of the distribution's kernel that was prepared, as uname would say. */
export function distributionRelease(): string {
  const modules = labPath('kernel', 'usr', 'lib', 'modules');
  const [release] = readdirSync(modules).sort().reverse();
  if (release === undefined) throw missing(`there is no kernel in ${modules}`);
  return release;
}

function distributionImage(): string {
  for (const folder of ['boot', 'usr/lib/modules'].map((part) => labPath('kernel', part))) {
    if (!existsSync(folder)) continue;
    const file = readdirSync(folder, { recursive: true }).find((path) => /(^|\/)vmlinuz[^/]*$/.test(String(path)));
    if (file !== undefined) return join(folder, String(file));
  }
  throw missing('there is no kernel image in the lab');
}

function missing(what: string, options = ''): CommandError {
  return new CommandError(`${what}; run: barter lab prepare${options}`);
}
