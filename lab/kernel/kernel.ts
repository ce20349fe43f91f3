/** What the lab knows of a kernel, and where the kernels that it builds are kept. */
import { labPath } from '../host/cache.ts';
import type { KernelModules } from './modules.ts';

export type BuiltKernel = 'iommufd' | 'debug';
export type KernelName = 'distribution' | BuiltKernel;

/** What modules from outside the tree are built against. */
export interface ModuleBuild {
  /** Arguments of make that name the kernel: `-C DIR`, and `O=DIR` where objects are apart. */
  make: readonly string[];
  /** Whether make runs in the lab's root, whose paths `make` then names. */
  inRoot: boolean;
}

export interface LabKernel {
  /** As --kernel names it. */
  name: string;
  describe: string;
  /** The kernel whose stages it needs; null for a kernel from outside of the lab. */
  base: KernelName | null;
  /** What QEMU boots. CommandError where it is not there yet. */
  image: () => string;
  /** Words for its command line, after those that all kernels get. */
  append: readonly string[];
  /** Null where all that the lab needs is built in. */
  modules: () => KernelModules | null;
  /** Whether the importer is built in. */
  hasImporter: boolean;
  /** The file of the importer's module; null where there is none. */
  importer: () => string | null;
  /** The ELF file with its symbols, for a debugger; null where there is none. */
  symbols: () => string | null;
  /** Null where no module can be built for it. */
  moduleBuild: () => ModuleBuild | null;
  hasIommufd: boolean;
  hasKmemleak: boolean;
  /** How much longer than the distribution's it takes for everything. */
  slowness: number;
}

/** What make builds and QEMU boots. An ELF image boots by PVH, without being unpacked; one with KASAN does not. */
export const IMAGE_OF: Readonly<Record<BuiltKernel, 'vmlinux' | 'bzImage'>> = { iommufd: 'vmlinux', debug: 'bzImage' };

/** The kernels' source, as the lab's root has it. */
export const SOURCE = '/usr/src/barter-linux';

/** Where a kernel's objects are, as the lab's root has them. */
export function objectsFolder(name: BuiltKernel): string {
  return `/usr/src/barter-kernel-${name}`;
}

/** Where the stage that builds a kernel leaves it. */
export function builtImagePath(name: BuiltKernel): string {
  return labPath('kernels', name, IMAGE_OF[name]);
}
