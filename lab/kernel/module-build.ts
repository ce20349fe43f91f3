/** Builds modules from outside the kernel's tree, against a kernel of the lab or a given one. */
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { labPath } from '../host/cache.ts';
import { CommandError, run, WrongUse } from '../host/command.ts';
import { runMounting } from '../host/root.ts';
import { copyImporterTo } from './importer.ts';
import type { LabKernel } from './kernel.ts';
import { importerPath } from './outside.ts';

/** The path in the lab's root of the folder whose module is built. */
const IN_ROOT = '/mnt';

/** Builds the modules of a folder with a Kbuild or a Makefile, in place; returns their files. */
export async function buildModule(log: string, kernel: LabKernel, folder: string): Promise<string[]> {
  const path = resolve(folder);
  if (!['Kbuild', 'Makefile'].some((file) => existsSync(join(path, file)))) {
    throw new WrongUse(`${folder} has neither a Kbuild nor a Makefile: it would say obj-m := NAME.o`);
  }
  const build = kernel.moduleBuild();
  if (build === null) {
    throw new WrongUse(`no module can be built for ${kernel.name}: it has no build tree, or CONFIG_MODULES is not set`);
  }
  const make = ['make', '-s', ...build.make];
  if (build.inRoot) {
    const root = labPath('root');
    const script = `mount -t proc proc "$1/proc" && mount --bind "$2" "$1${IN_ROOT}" && root=$1 && shift 2 && \
exec chroot "$root" "$@"`;
    await runMounting(log, 'sh', ['-c', script, 'sh', root, path, ...make, `M=${IN_ROOT}`, 'modules']);
  } else {
    const [command, ...args] = make;
    await run(log, command, [...args, `M=${path}`, 'modules'], path);
  }
  const modules = readFileSync(join(path, 'modules.order'), 'utf8').trim().split('\n');
  return modules.map((line) => join(path, line.replace(`${IN_ROOT}/`, '').replace(/\.o$/, '.ko')));
}

/** Whether the importer of a kernel from outside is built, or cannot be built. */
export function isImporterReady(kernel: LabKernel): boolean {
  if (kernel.base !== null || kernel.hasImporter || kernel.moduleBuild() === null) return true;
  return existsSync(importerPath(kernel.image()));
}

/** Builds the importer for a kernel from outside that has none built in. Does nothing if it cannot be built. */
export async function buildOutsideImporter(log: string, kernel: LabKernel): Promise<void> {
  if (isImporterReady(kernel)) return;
  const target = importerPath(kernel.image());
  const folder = mkdtempSync(join(tmpdir(), 'barter-importer-'));
  try {
    copyImporterTo(folder);
    const built = (await buildModule(log, kernel, folder)).find((file) => file.endsWith('/barter_importer.ko'));
    if (built === undefined) throw new CommandError(`the importer's module was not built; ${log} says why`);
    mkdirSync(dirname(target), { recursive: true });
    copyFileSync(built, target);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
