/** Builds Linux's own vfio selftests from the lab's kernel source, as static programs that run in any guest. */
import { copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { packageFile } from '../../src/linux/package-file.ts';
import { labPath } from '../host/cache.ts';
import { buildInRoot, inRoot, installInRoot } from '../host/root.ts';
import { SOURCE } from './kernel.ts';

const MODE = 'selftests-mode.c';
/** The path in the lab's root. */
const TARGET = '/usr/src/barter-selftests';
const PACKAGES = ['uuid-dev', 'libc6-dev', 'linux-libc-dev'];

export function selftestsKey(): string {
  return `vfio ${PACKAGES.join(' ')} ${readFileSync(packageFile(`lab/kernel/${MODE}`), 'utf8')}`;
}

export async function buildSelftests(log: string): Promise<void> {
  const folder = labPath('root', TARGET);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  copyFileSync(packageFile(`lab/kernel/${MODE}`), join(folder, MODE));
  await installInRoot(log, ...PACKAGES);
  await inRoot(log, 'apt-get', 'clean');
  await inRoot(log, 'gcc', '-Wall', '-c', `${TARGET}/${MODE}`, '-o', `${TARGET}/mode.o`);
  const make = [
    ...['make', '-s', `-j${availableParallelism()}`, '-C', `${SOURCE}/tools/testing/selftests/vfio`, 'ARCH=x86_64'],
    ...['KHDR_INCLUDES="-isystem /usr/include"', 'EXTRA_CFLAGS="-Wno-error -static -Wl,--wrap=poll"'],
    // Replaces the Makefile's own value.
    ...[`LDLIBS="${TARGET}/mode.o -luuid"`, `OUTPUT=${TARGET}`],
  ];
  await buildInRoot(log, make.join(' '));
}

/** The programs by name, with the paths that the host and every guest have for them. */
export function selftestPrograms(): Map<string, string> {
  const folder = labPath('root', TARGET);
  const names = readdirSync(folder).filter((name) => /^vfio_\w+_test$/.test(name));
  return new Map(names.sort().map((name) => [name, join(folder, name)]));
}
