/** The lab's folder of the distribution: commands that run in it, and packages that are installed there. */
import { labPath, NEWEST_SUITE } from './cache.ts';
import { run } from './command.ts';

const FROM_NEWEST = ['apt-get', '-y', '-q', '-t', NEWEST_SUITE, 'install', '--no-install-recommends'];

/**
 * What a command mounts is seen by it alone and goes with it: nothing of the machine is mounted in a root that an
 * interruption leaves behind, and that is removed then.
 */
export function runMounting(log: string, command: string, args: readonly string[]): Promise<void> {
  return run(log, 'unshare', ['--mount', command, ...args], '/');
}

export function inRoot(log: string, ...command: string[]): Promise<void> {
  return runMounting(log, 'chroot', [labPath('root'), ...command]);
}

/** As `inRoot`, with /proc: builds look at their own limits there. */
export function buildInRoot(log: string, command: string): Promise<void> {
  const root = labPath('root');
  return runMounting(log, 'sh', ['-c', `mount -t proc proc ${root}/proc && exec chroot ${root} ${command}`]);
}

/** Installs packages in the root, of the backports where they have them. Options such as --download-only go along. */
export async function installInRoot(log: string, ...packages: string[]): Promise<void> {
  await inRoot(log, ...FROM_NEWEST, ...packages);
}
