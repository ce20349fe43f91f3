/** Runs QEMU from the lab's root without entering it, with its own loader, libraries, firmware and modules. */
import { join } from 'node:path';
import { labPath } from './cache.ts';
import { CommandError, output } from './command.ts';

/** The command that runs a program of the root on this machine. */
export function rootProgram(path: string): string[] {
  const root = labPath('root');
  const loader = join(root, 'lib64/ld-linux-x86-64.so.2');
  const libraries = ['usr/lib/x86_64-linux-gnu', 'usr/lib/x86_64-linux-gnu/pulseaudio'].map((folder) =>
    join(root, folder),
  );
  return [loader, '--library-path', libraries.join(':'), join(root, path)];
}

export function qemuProgram(): string[] {
  const share = ['usr/share/qemu', 'usr/share/seabios', 'usr/lib/ipxe/qemu'].flatMap((folder) => [
    '-L',
    join(labPath('root'), folder),
  ]);
  return [...rootProgram('usr/bin/qemu-system-x86_64'), ...share];
}

export const QEMU_ENVIRONMENT = (): Record<string, string> => ({
  QEMU_MODULE_DIR: join(labPath('root'), 'usr/lib/x86_64-linux-gnu/qemu'),
});

/** The version that QEMU prints: "11.1.3 (Debian ...)". */
export async function qemuVersion(): Promise<string> {
  const [command, ...args] = rootProgram('usr/bin/qemu-system-x86_64');
  const text = await output(command, [...args, '--version']);
  const version = text === null ? null : /version (.*)/.exec(text);
  if (version === null)
    throw new CommandError('the QEMU of the lab does not run; run: barter lab clean, and prepare again');
  return version[1];
}
