/**
 * Builds a lab kernel with a series of changes. It links the base's source and copies its objects, and mounts both at
 * the base's paths, so that make rebuilds only what changed. A patched kernel has its own name and folder, so it never
 * mixes with the base.
 */
import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { isStamped, labPath, lockCache, stamp } from '../host/cache.ts';
import { run, WrongUse } from '../host/command.ts';
import { runMounting } from '../host/root.ts';
import { kernelKey } from './build.ts';
import { applyEdit } from './edit.ts';
import { type BuiltKernel, IMAGE_OF, objectsFolder, SOURCE } from './kernel.ts';
import { type PatchedManifest, patchedFolder } from './patched.ts';
import { type Change, readSeries, seriesKey } from './series.ts';

/** The name of the kernel that a series makes from a base: iommufd+fix. */
function patchedName(base: BuiltKernel, series: string): string {
  return `${base}+${basename(resolve(series)).replace(/\.(mbox|patch|diff|ya?ml)$/, '')}`;
}

/**
 * Builds the patched kernel if it does not exist yet. Calls `onWait` with the pid that holds the cache, and `onBuild`
 * when the build starts.
 */
export async function buildPatched(
  base: BuiltKernel,
  series: string,
  hear: { onWait: (pid: string) => void; onBuild: (changes: readonly Change[]) => void },
): Promise<string> {
  const name = patchedName(base, series);
  const changes = readSeries(series);
  const stage = `patched-${name}`;
  const key = `${kernelKey(base)} ${seriesKey(series)}`;
  const release = await lockCache(hear.onWait);
  try {
    if (isStamped(stage, key) && existsSync(join(patchedFolder(name), 'manifest.json'))) return name;
    hear.onBuild(changes);
    await build(base, name, changes);
    const titles = changes.map(({ title }) => title);
    const manifest: PatchedManifest = {
      ...{ name, base, baseKey: kernelKey(base) },
      ...{ series: resolve(series), seriesKey: seriesKey(series), titles },
    };
    writeFileSync(join(patchedFolder(name), 'manifest.json'), JSON.stringify(manifest, null, 2));
    stamp(stage, key);
    return name;
  } finally {
    release();
  }
}

async function build(base: BuiltKernel, name: string, changes: readonly Change[]): Promise<void> {
  const log = labPath('prepare.log');
  const folder = patchedFolder(name);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const [source, objects] = [join(folder, 'source'), join(folder, 'objects')];
  try {
    await run(log, 'cp', ['-al', labPath('root', SOURCE), source]);
    await run(log, 'cp', ['-a', '--reflink=auto', labPath('root', objectsFolder(base)), objects]);
    for (const change of changes) await apply(log, source, change);
    const target = IMAGE_OF[base];
    const make = ['make', '-C', SOURCE, `O=${objectsFolder(base)}`, 'ARCH=x86_64', '-s', `-j${availableParallelism()}`];
    const mount = (from: string, to: string) => `mount --bind "${from}" "$root${to}"`;
    const script = `root=$1; shift; mount -t proc proc "$root/proc" && ${mount(source, SOURCE)} && \
${mount(objects, objectsFolder(base))} && exec chroot "$root" nice "$@"`;
    await runMounting(log, 'sh', ['-c', script, 'sh', labPath('root'), ...make, target]);
    const built = join(objects, target === 'vmlinux' ? target : `arch/x86/boot/${target}`);
    copyFileSync(built, join(folder, target));
    if (target !== 'vmlinux') copyFileSync(join(objects, 'vmlinux'), join(folder, 'vmlinux'));
  } finally {
    rmSync(source, { recursive: true, force: true });
    rmSync(objects, { recursive: true, force: true });
  }
}

/** Replaces files and never writes into them, since the base has the same files. patch(1) does so, too. */
async function apply(log: string, source: string, change: Change): Promise<void> {
  if (change.kind === 'edit') {
    for (const each of change.edits) {
      const path = join(source, each.file);
      if (!existsSync(path)) throw new WrongUse(`${change.title}: the kernel has no ${each.file}`);
      const text = applyEdit(readFileSync(path, 'utf8'), each);
      writeFileSync(`${path}.new`, text);
      renameSync(`${path}.new`, path);
    }
    return;
  }
  const file = join(source, '.barter.patch');
  rmSync(file, { force: true });
  writeFileSync(file, change.text);
  const root = labPath('root');
  const patch = `patch -p1 --no-backup-if-mismatch -N -d ${SOURCE} -i .barter.patch`;
  const script = `mount --bind "$2" "$1${SOURCE}" && exec chroot "$1" ${patch}`;
  try {
    await runMounting(log, 'sh', ['-c', script, 'sh', root, source]);
  } catch (error) {
    throw new WrongUse(`"${change.title}" does not apply to this kernel: ${(error as Error).message}`);
  } finally {
    rmSync(file, { force: true });
  }
}
