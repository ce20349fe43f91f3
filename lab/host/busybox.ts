/** The static busybox of the lab's root, which runs on the host and in every guest. */
import { execFileSync } from 'node:child_process';
import { labPath } from './cache.ts';

export function busyboxPath(): string {
  return labPath('root', 'usr/bin/busybox');
}

let names: readonly string[] | null = null;

/** The names of its applets, except busybox itself. */
export function busyboxApplets(): readonly string[] {
  names ??= execFileSync(busyboxPath(), ['--list'], { encoding: 'utf8' })
    .trim()
    .split('\n')
    .filter((name) => name !== 'busybox');
  return names;
}
