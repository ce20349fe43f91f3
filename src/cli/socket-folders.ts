/** The folders of sockets that `barter serve` makes by default. */
import { readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const parent = (): string => process.env.XDG_RUNTIME_DIR ?? tmpdir();
const prefix = (): string => `barter-${process.getuid?.() ?? 0}-`;

export function defaultSocketDir(machine: string): string {
  return join(parent(), `${prefix()}${machine}`);
}

/** All that exist, of servers that run or that died. */
export function socketFolders(): string[] {
  const names = readdirSync(parent()).filter((name) => name.startsWith(prefix()));
  return names.map((name) => join(parent(), name));
}
