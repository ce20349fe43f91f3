/** Programs for the guest that the host may lack. They come from the lab's root. */
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { busyboxApplets, busyboxPath } from './busybox.ts';
import { labPath } from './cache.ts';
import { rootProgram } from './qemu.ts';

const STANDARD_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** Each program's path, and arguments that come before the user's own, such as the place of its data. */
const PROGRAMS: readonly [name: string, path: string, ...string[]][] = [
  ['lspci', 'usr/bin/lspci', '-i', 'usr/share/misc/pci.ids'],
  ['setpci', 'usr/bin/setpci'],
];

/** Makes a folder of programs in `folder`; returns a PATH that has them after the host's own. */
export function guestPath(folder: string): string {
  const tools = join(folder, 'tools');
  mkdirSync(tools);
  for (const [name, path, ...args] of PROGRAMS) {
    const words = [...rootProgram(path), ...args.map((arg) => (arg.startsWith('-') ? arg : labPath('root', arg)))];
    writeFileSync(join(tools, name), `#!/bin/sh\nexec ${words.join(' ')} "$@"\n`, { mode: 0o755 });
  }
  const made = new Set(PROGRAMS.map(([name]) => name));
  for (const applet of busyboxApplets()) if (!made.has(applet)) symlinkSync(busyboxPath(), join(tools, applet));
  return `${process.env.PATH ?? STANDARD_PATH}:${STANDARD_PATH}:${tools}`;
}
