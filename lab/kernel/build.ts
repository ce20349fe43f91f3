/**
 * Builds the lab's own kernels, with the importer inside, from the source of the distribution's kernel. Source and
 * objects stay in the lab's root, so an interrupted build continues. A changed list of options (lab/kernel/) or a
 * changed importer rebuilds what depends on it.
 */
import { createHash } from 'node:crypto';
import { copyFileSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { basename, join } from 'node:path';
import { packageFile } from '../../src/linux/package-file.ts';
import { labPath } from '../host/cache.ts';
import { CommandError } from '../host/command.ts';
import { buildInRoot, inRoot, installInRoot } from '../host/root.ts';
import { importerSources } from './importer.ts';
import { type BuiltKernel, builtImagePath, IMAGE_OF, objectsFolder, SOURCE } from './kernel.ts';
import { distributionRelease } from './named.ts';

const CONFIGS = packageFile('lab/kernel');
const IMPORTER_IN_SOURCE = 'drivers/barter';
export const BUILD_PACKAGES = [
  'flex',
  'bison',
  'bc',
  'libelf-dev',
  'libssl-dev',
  'perl',
  'cpio',
  'kmod',
  'make',
  'gcc',
];

/** Fetches and unpacks the source, and puts the importer into it. */
export async function unpackKernelSource(log: string): Promise<void> {
  const version = /^\d+\.\d+/.exec(distributionRelease())?.[0];
  if (version === undefined) throw new CommandError(`the kernel's release ${distributionRelease()} has no version`);
  const tree = inside(SOURCE);
  rmSync(tree, { recursive: true, force: true });
  mkdirSync(join(tree, IMPORTER_IN_SOURCE), { recursive: true });
  // The package lists are as old as the root.
  await inRoot(log, 'apt-get', 'update', '-q');
  await installInRoot(log, `linux-source-${version}`, ...BUILD_PACKAGES);
  await inRoot(log, 'apt-get', 'clean');
  const archive = `/usr/src/linux-source-${version}.tar.xz`;
  await inRoot(log, 'tar', '-xJf', archive, '-C', SOURCE, '--strip-components=1');
  const folder = basename(IMPORTER_IN_SOURCE);
  append(join(tree, 'drivers/Makefile'), `obj-y += ${folder}/\n`);
  append(join(tree, 'drivers/Kconfig'), `source "${IMPORTER_IN_SOURCE}/Kconfig"\n`);
}

/** The inputs of a kernel besides its source. */
export function kernelKey(name: BuiltKernel): string {
  const hash = createHash('sha256')
    .update(configText(name))
    .update(readFileSync(join(CONFIGS, 'Kconfig')));
  for (const [file, text] of importerSources()) hash.update(file).update(text);
  return hash.digest('hex');
}

/** Configures and builds a kernel, and copies the image that QEMU boots into the cache. */
export async function buildKernel(log: string, name: BuiltKernel): Promise<void> {
  copyImporter();
  const target = IMAGE_OF[name];
  const objects = objectsFolder(name);
  mkdirSync(inside(objects), { recursive: true });
  writeFileSync(join(inside(objects), 'lab.config'), configText(name));
  const make = `nice make -C ${SOURCE} O=${objects} ARCH=x86_64`;
  await buildInRoot(log, `${make} KCONFIG_ALLCONFIG=${objects}/lab.config allnoconfig`);
  demandOptions(name, readFileSync(join(inside(objects), '.config'), 'utf8'));
  // `modules` makes Module.symvers, against which modules from outside the tree are linked.
  await buildInRoot(log, `${make} -s -j${availableParallelism()} ${target} modules`);
  const built = join(inside(objects), target === 'vmlinux' ? target : `arch/x86/boot/${target}`);
  const image = builtImagePath(name);
  mkdirSync(join(image, '..'), { recursive: true });
  // Renames a new file, so that a guest that boots right now keeps its image.
  copyFileSync(built, `${image}.new`);
  renameSync(`${image}.new`, image);
}

/** The path on this machine of a path in the root. */
function inside(path: string): string {
  return labPath('root', path);
}

function append(path: string, line: string): void {
  writeFileSync(path, readFileSync(path, 'utf8') + line);
}

/** Copies the same sources as the module's. An unchanged file keeps its time, so make does not rebuild its object. */
function copyImporter(): void {
  const folder = join(inside(SOURCE), IMPORTER_IN_SOURCE);
  const texts = importerSources();
  texts.set('Kconfig', readFileSync(join(CONFIGS, 'Kconfig'), 'utf8'));
  const objects = ['importer', 'canary'].map(
    (name) => `obj-$(CONFIG_BARTER_${name.toUpperCase()}) += barter_${name}.o\n`,
  );
  texts.set('Makefile', objects.join(''));
  const there = new Set(readdirSync(folder));
  for (const [file, text] of texts) {
    const path = join(folder, file);
    if (!there.has(file) || readFileSync(path, 'utf8') !== text) writeFileSync(path, text);
  }
}

function configText(name: BuiltKernel): string {
  return ['common', name].map((file) => readFileSync(join(CONFIGS, `${file}.config`), 'utf8')).join('\n');
}

/** Throws if the configuration silently dropped an option whose conditions do not hold. */
function demandOptions(name: BuiltKernel, config: string): void {
  const lines = new Set(config.split('\n'));
  const wanted = configText(name).split('\n');
  const absent = wanted.filter((line) => line.startsWith('CONFIG_') && !lines.has(line));
  const unwanted = wanted
    .map((line) => /^# (CONFIG_\w+) is not set$/.exec(line)?.[1])
    .filter((option) => option !== undefined && new RegExp(`^${option}=`, 'm').test(config));
  if (absent.length + unwanted.length === 0) return;
  throw new CommandError(
    `the kernel's source does not take lab/kernel/${name}.config as it is: ` +
      [...absent.map((line) => `no ${line}`), ...unwanted.map((option) => `${option} is set`)].join(', '),
  );
}
