/** A kernel as the lab knows it, and the paths of the kernels that the lab builds. */
import { labPath } from '../host/cache.ts';
import type { KernelModules } from './modules.ts';

export type BuiltKernel = 'iommufd' | 'debug';
export type KernelName = 'distribution' | BuiltKernel;

/** How to build modules from outside the tree. */
export interface ModuleBuild {
  /** Arguments of make that name the kernel: `-C DIR`, and `O=DIR` for separate objects. */
  make: readonly string[];
  /** Whether make runs in the lab's root. `make` then has the root's paths. */
  inRoot: boolean;
}

export interface LabKernel {
  /** The name that --kernel takes. */
  name: string;
  describe: string;
  /** The kernel whose stages it needs; null for a kernel from outside the lab. */
  base: KernelName | null;
  /** The image that QEMU boots. Throws CommandError if it does not exist yet. */
  image: () => string;
  /** Words for its command line, after those of all kernels. */
  append: readonly string[];
  /** Null if everything that the lab needs is built in. */
  modules: () => KernelModules | null;
  /** Whether the importer is built in. */
  hasImporter: boolean;
  /** The path of the importer's module; null if there is none. */
  importer: () => string | null;
  /** The ELF file with symbols for a debugger; null if there is none. */
  symbols: () => string | null;
  /** Null if modules cannot be built for it. */
  moduleBuild: () => ModuleBuild | null;
  hasIommufd: boolean;
  hasKmemleak: boolean;
  /** How many times longer than the distribution's kernel it takes for everything. */
  slowness: number;
}

/** The file that make builds and QEMU boots. An ELF image boots by PVH, without unpacking, but not with KASAN. */
export const IMAGE_OF: Readonly<Record<BuiltKernel, 'vmlinux' | 'bzImage'>> = { iommufd: 'vmlinux', debug: 'bzImage' };

/** The path of the kernels' source in the lab's root. */
export const SOURCE = '/usr/src/barter-linux';

/** The path of a kernel's objects in the lab's root. */
export function objectsFolder(name: BuiltKernel): string {
  return `/usr/src/barter-kernel-${name}`;
}

/** The image of a kernel that the lab has built. */
export function builtImagePath(name: BuiltKernel): string {
  return labPath('kernels', name, IMAGE_OF[name]);
}
