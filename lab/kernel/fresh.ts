/** Checks that an image is up to date with its build tree. */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readlinkSync, realpathSync, statSync } from 'node:fs';
import { isAbsolute, join, relative } from 'node:path';
import { labPath } from '../host/cache.ts';
import { WrongUse } from '../host/command.ts';

/** Folders of the source that do not affect the image. */
const IGNORED = ['.git', 'Documentation', 'tools', 'samples'];

/**
 * Throws WrongUse if a source, a header or an option has changed since the image was built. make records the
 * dependencies of each object in .NAME.cmd.
 */
export function demandFresh(tree: string, image: string): void {
  const config = join(tree, '.config');
  const seen = join(tree, 'include/config/auto.conf');
  if (existsSync(seen) && statSync(config).mtimeMs > statSync(seen).mtimeMs) throw stale(tree, '.config', 'the build');
  const source = sourceOf(tree);
  const changed = [...newerFiles(source, image, sourceFilter()), ...newerFiles(join(tree, 'include/config'), image, [])]
    .map((file) => (file.startsWith(`${source}/`) ? relative(source, file) : relative(tree, file)))
    .filter((file) => !/include\/config\/(auto\.conf|kernel\.release)/.test(file));
  const used = changed.length === 0 ? undefined : firstUsed(tree, changed);
  if (used !== undefined) throw stale(tree, used, relative(tree, image));
}

function stale(tree: string, file: string, image: string): WrongUse {
  return new WrongUse(`${file} is newer than ${image}: build the kernel again (make -C ${tree})`);
}

/**
 * In a separate objects folder `source` links to the source. The link is a path in the lab's root if it was built
 * there.
 */
function sourceOf(tree: string): string {
  const link = join(tree, 'source');
  if (!existsSync(join(tree, 'Kconfig'))) {
    try {
      const target = readlinkSync(link);
      const root = existsSync(labPath('root')) ? realpathSync(labPath('root')) : null;
      const isInside = root !== null && tree.startsWith(`${root}/`) && !target.startsWith(root);
      return realpathSync(isAbsolute(target) ? join(isInside ? root : '/', target) : join(tree, target));
    } catch {
      throw new WrongUse(`${tree} has neither a source nor a link to it: was it moved?`);
    }
  }
  return tree;
}

function sourceFilter(): string[] {
  const names = ['*.c', '*.h', '*.S', 'Kconfig*', 'Makefile', 'Kbuild'].flatMap((name) => ['-o', '-name', name]);
  return ['(', ...names.slice(1), ')', '!', '-name', '*.mod.c'];
}

function newerFiles(folder: string, image: string, filter: readonly string[]): string[] {
  if (!existsSync(folder)) return [];
  const ignored = IGNORED.flatMap((name) => ['-o', '-path', join(folder, name)]).slice(1);
  const args = [folder, '(', ...ignored, ')', '-prune', '-o', '-type', 'f', '-newer', image, ...filter, '-print'];
  return execFileSync('find', args, { encoding: 'utf8', maxBuffer: 1 << 28 })
    .split('\n')
    .filter((file) => file !== '');
}

/** The first of the files on which a built object depends. */
function firstUsed(tree: string, files: readonly string[]): string | undefined {
  const input = `${files.join('\n')}\n`;
  const options = ['-rhoF', '--include=.*.cmd', '--exclude-dir=.git', '-m', '1', '-f', '-', tree];
  const { stdout } = spawnSync('grep', options, { input, encoding: 'utf8', maxBuffer: 1 << 28 });
  return stdout.split('\n').find((line) => line !== '');
}
