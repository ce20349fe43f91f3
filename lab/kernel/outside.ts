/** A kernel from outside the lab: a build tree, or an image with its modules. */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { labPath } from '../host/cache.ts';
import { readGiven, WrongUse } from '../host/command.ts';
import { demandFresh } from './fresh.ts';
import { importerKey } from './importer.ts';
import type { LabKernel, ModuleBuild } from './kernel.ts';
import { KernelModules } from './modules.ts';
import { parseConfig, unmetNeeds } from './needs.ts';

type Config = ReadonlyMap<string, string>;

/** Throws WrongUse if the path is not a kernel, is out of date, or lacks an option that the lab needs. */
export function openOutsideKernel(path: string, modules: string | null): LabKernel {
  const real = realpathSync(path);
  if (!statSync(real).isDirectory()) return openImage(path, real, modules);
  if (modules !== null) throw new WrongUse(`--modules is for an image; ${path} is a folder, which has its own modules`);
  return openTree(path, real);
}

function openTree(name: string, tree: string): LabKernel {
  const configFile = join(tree, '.config');
  if (!existsSync(configFile)) throw new WrongUse(`${name} is not a kernel build tree: it has no .config`);
  const config = parseConfig(readFileSync(configFile, 'utf8'));
  demandNeeds(name, config);
  const image = imageOf(name, tree, config);
  demandFresh(tree, image);
  const modular = config.get('MODULES') === 'y';
  return outsideKernel({
    name,
    describe: `the build tree ${name}`,
    image,
    config,
    modules: modular ? KernelModules.built(tree) : null,
    moduleBuild: modular ? treeBuild(tree) : null,
    symbols: existsSync(join(tree, 'vmlinux')) ? join(tree, 'vmlinux') : null,
  });
}

/** Prefers a compressed image, which boots everywhere. The ELF file needs PVH, and dies with KASAN. */
function imageOf(name: string, tree: string, config: Config): string {
  const compressed = join(tree, 'arch/x86/boot/bzImage');
  const plain = join(tree, 'vmlinux');
  const isCurrent =
    existsSync(compressed) && (!existsSync(plain) || statSync(compressed).mtimeMs >= statSync(plain).mtimeMs);
  if (isCurrent) return compressed;
  if (existsSync(plain) && config.get('PVH') === 'y' && config.get('KASAN') !== 'y') return plain;
  const what = existsSync(compressed) ? 'a bzImage that is older than its vmlinux' : 'no arch/x86/boot/bzImage';
  throw new WrongUse(`${name} has ${what}: make -C ${name} bzImage`);
}

/** A tree that the lab built has the paths of the lab's root. */
function treeBuild(tree: string): ModuleBuild {
  const root = existsSync(labPath('root')) ? realpathSync(labPath('root')) : null;
  if (root === null || !tree.startsWith(`${root}/`)) return { make: ['-C', tree], inRoot: false };
  return { make: ['-C', tree.slice(root.length)], inRoot: true };
}

function openImage(name: string, image: string, modulesOption: string | null): LabKernel {
  const content = readGiven(image);
  const release = releaseOf(content);
  if (release === null) throw new WrongUse(`${name} is neither a bzImage nor a vmlinux of x86-64`);
  const folder = modulesOption === null ? null : modulesFolder(modulesOption, release);
  const config = configOf(image, content, release, folder);
  if (config === null) console.error(`barter: the configuration of ${name} is not known, so it is not checked`);
  else demandNeeds(name, config);
  const build = folder === null ? null : join(folder, 'build');
  return outsideKernel({
    name,
    describe: `${name}, Linux ${release}`,
    image,
    config: config ?? new Map(),
    modules: folder === null ? null : KernelModules.installed(folder),
    moduleBuild: build !== null && existsSync(build) ? { make: ['-C', realpathSync(build)], inRoot: false } : null,
    symbols: content.subarray(0, 4).toString('latin1') === '\x7fELF' ? image : null,
  });
}

/** The release: a bzImage has it at the place that its boot header names, a vmlinux has a banner. */
function releaseOf(image: Buffer): string | null {
  if (image.subarray(0x202, 0x206).toString('latin1') === 'HdrS') {
    const at = image.readUInt16LE(0x20e) + 0x200;
    return /^[^\s\0]+/.exec(image.subarray(at, at + 256).toString('latin1'))?.[0] ?? null;
  }
  if (image.subarray(0, 4).toString('latin1') !== '\x7fELF') return null;
  const banner = image.indexOf('Linux version ');
  return banner < 0 ? null : (/^Linux version (\S+)/.exec(image.toString('latin1', banner, banner + 256))?.[1] ?? null);
}

/** The folder is lib/modules/RELEASE, or contains it. */
function modulesFolder(option: string, release: string): string {
  const places = [option, ...['', 'lib/modules', 'usr/lib/modules'].map((part) => join(option, part, release))];
  const folder = places.find((place) => existsSync(join(place, 'kernel')));
  if (folder === undefined) {
    throw new WrongUse(`--modules ${option} has no modules of Linux ${release}: give lib/modules/${release}`);
  }
  return resolve(folder);
}

function configOf(image: string, content: Buffer, release: string, folder: string | null): Config | null {
  const places = [
    ...(folder === null ? [] : [join(folder, 'build/.config'), join(folder, 'config')]),
    join(dirname(image), `config-${release}`),
    ...(basename(image) === 'vmlinux' ? [join(dirname(image), '.config')] : []),
    ...(basename(image) === 'bzImage' ? [join(dirname(image), '../../../.config')] : []),
  ];
  const file = places.find((place) => existsSync(place));
  if (file !== undefined) return parseConfig(readFileSync(file, 'utf8'));
  // CONFIG_IKCONFIG keeps the configuration in the image, between two marks.
  const [start, end] = [content.indexOf('IKCFG_ST'), content.indexOf('IKCFG_ED')];
  return start < 0 || end < start ? null : parseConfig(gunzipSync(content.subarray(start + 8, end)).toString('utf8'));
}

function demandNeeds(name: string, config: Config): void {
  const unmet = unmetNeeds(config);
  if (unmet.length === 0) return;
  throw new WrongUse(
    `the kernel ${name} lacks what the lab needs:\n  ${unmet.join('\n  ')}\n` +
      'barter lab kconfig prints all of it, for scripts/kconfig/merge_config.sh',
  );
}

interface KernelParts {
  name: string;
  describe: string;
  image: string;
  config: Config;
  modules: KernelModules | null;
  moduleBuild: ModuleBuild | null;
  symbols: string | null;
}

function outsideKernel({ name, describe, image, config, modules, moduleBuild, symbols }: KernelParts): LabKernel {
  const has = (option: string): boolean => config.get(option) === 'y' || config.get(option) === 'm';
  const importer = importerPath(image);
  return {
    name,
    describe,
    base: null,
    image: () => image,
    append: has('KASAN') ? ['kasan_multi_shot'] : [],
    modules: () => modules,
    hasImporter: has('BARTER_IMPORTER'),
    importer: () => (!has('BARTER_IMPORTER') && existsSync(importer) ? importer : null),
    symbols: () => symbols,
    moduleBuild: () => moduleBuild,
    hasIommufd: has('IOMMUFD') && has('VFIO_DEVICE_CDEV'),
    hasKmemleak: has('DEBUG_KMEMLEAK'),
    slowness: has('KASAN') || has('PROVE_LOCKING') ? 4 : 1,
  };
}

/** The path of the importer for this image. It differs for every image and every version of the importer's source. */
export function importerPath(image: string): string {
  const { mtimeMs, size } = statSync(image);
  const key = createHash('sha256').update(`${image} ${mtimeMs} ${size} ${importerKey()}`).digest('hex').slice(0, 16);
  return labPath('importers', key, 'barter_importer.ko');
}
