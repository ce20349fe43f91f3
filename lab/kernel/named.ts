/** The named kernels: the distribution's own, and those built from its source. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { labPath } from '../host/cache.ts';
import { CommandError } from '../host/command.ts';
import { type BuiltKernel, builtImagePath, type LabKernel, objectsFolder, SOURCE } from './kernel.ts';
import { KernelModules } from './modules.ts';

export const DISTRIBUTION: LabKernel = {
  name: 'distribution',
  describe: "the distribution's own kernel, with its modules",
  base: 'distribution',
  image: distributionImage,
  append: [],
  modules: distributionModules,
  hasImporter: false,
  importer: () => labPath('barter_importer.ko'),
  symbols: () => null,
  moduleBuild: () => ({ make: ['-C', `/usr/src/${distributionHeaders()}`], inRoot: true }),
  hasIommufd: false,
  hasKmemleak: false,
  slowness: 1,
};

/** The kernels that have a name of their own. */
export const KERNELS: readonly LabKernel[] = [
  DISTRIBUTION,
  builtKernel('iommufd', {
    describe: 'with IOMMUFD, whose address spaces import dma-bufs; boots in two seconds',
    append: [],
    hasKmemleak: false,
    slowness: 1,
  }),
  builtKernel('debug', {
    describe: 'with KASAN, lockdep, kmemleak and the detector of hung tasks',
    // Without this, KASAN reports only once.
    append: ['kasan_multi_shot'],
    hasKmemleak: true,
    slowness: 4,
  }),
];

function builtKernel(
  name: BuiltKernel,
  traits: Pick<LabKernel, 'describe' | 'append' | 'hasKmemleak' | 'slowness'>,
): LabKernel {
  return {
    name,
    base: name,
    ...traits,
    image: () => builtImage(name),
    modules: () => null,
    hasImporter: true,
    importer: () => null,
    symbols: () => labPath('root', objectsFolder(name), 'vmlinux'),
    moduleBuild: () => ({ make: ['-C', SOURCE, `O=${objectsFolder(name)}`], inRoot: true }),
    hasIommufd: true,
  };
}

function builtImage(name: BuiltKernel): string {
  const path = builtImagePath(name);
  if (!existsSync(path)) throw missing(`there is no kernel ${name} in the lab`, ` --kernel ${name}`);
  return path;
}

/** The release of the prepared distribution kernel, as uname reports it. */
export function distributionRelease(): string {
  const modules = labPath('kernel', 'usr', 'lib', 'modules');
  const [release] = readdirSync(modules).sort().reverse();
  if (release === undefined) throw missing(`there is no kernel in ${modules}`);
  return release;
}

/** The folder of the distribution's headers in the root's /usr/src. */
export function distributionHeaders(): string {
  const folder = labPath('root', 'usr/src');
  const headers = readdirSync(folder).find((name) => /^linux-headers-.*-amd64$/.test(name));
  if (headers === undefined) throw missing('the kernel headers are missing; run: barter lab clean');
  return headers;
}

let installed: KernelModules | null = null;

function distributionModules(): KernelModules {
  installed ??= KernelModules.installed(labPath('kernel', 'usr/lib/modules', distributionRelease()));
  return installed;
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
