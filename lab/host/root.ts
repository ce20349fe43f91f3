/** The lab's folder of the distribution: runs commands and installs packages in it. */
import { labPath, NEWEST_SUITE } from './cache.ts';
import { run } from './command.ts';

const FROM_NEWEST = ['apt-get', '-y', '-q', '-t', NEWEST_SUITE, 'install', '--no-install-recommends'];

/**
 * Runs a command in a mount namespace of its own, so its mounts end with it. An interrupted run must not leave mounts
 * of the machine in a root that is removed later.
 */
export function runMounting(log: string, command: string, args: readonly string[]): Promise<void> {
  return run(log, 'unshare', ['--mount', command, ...args], '/');
}

export function inRoot(log: string, ...command: string[]): Promise<void> {
  return runMounting(log, 'chroot', [labPath('root'), ...command]);
}

/** As `inRoot`, with /proc, in which builds look up their own limits. */
export function buildInRoot(log: string, command: string): Promise<void> {
  const root = labPath('root');
  return runMounting(log, 'sh', ['-c', `mount -t proc proc ${root}/proc && exec chroot ${root} ${command}`]);
}

/** Installs packages in the root, from the backports if they have them. Passes options such as --download-only on. */
export async function installInRoot(log: string, ...packages: string[]): Promise<void> {
  await inRoot(log, ...FROM_NEWEST, ...packages);
}
