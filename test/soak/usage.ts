/** What a process holds, from /proc. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

/** The quantities that may not grow, in the order of a line of the soak. */
export const QUANTITIES = ['fds', 'sessions', 'threads', 'files', 'mappings', 'rssMiB'] as const;
export type Quantity = (typeof QUANTITIES)[number];

/**
 * `sessions` counts open sockets: listeners, clients, sessions of importers and lent buffers. `files` counts the
 * mappings of files, such as clients' memory; `mappings` counts all, those of the JavaScript heap included.
 */
export type Usage = Record<Quantity, number>;

export function usageOf(pid: number): Usage {
  const folder = `/proc/${pid}`;
  const fds = readdirSync(`${folder}/fd`);
  const maps = readFileSync(`${folder}/maps`, 'utf8').trimEnd().split('\n');
  const status = readFileSync(`${folder}/status`, 'utf8');
  const number = (key: string) => Number(new RegExp(`^${key}:\\s+(\\d+)`, 'm').exec(status)?.[1]);
  return {
    fds: fds.length,
    sessions: fds.filter((fd) => targetOf(`${folder}/fd/${fd}`).startsWith('socket:')).length,
    threads: number('Threads'),
    files: maps.filter((line) => line.split(/\s+/)[4] !== '0').length,
    mappings: maps.length,
    rssMiB: Math.round(number('VmRSS') / 1024),
  };
}

/** A descriptor may be closed while it is read. */
function targetOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}

export function largest(a: Usage, b: Usage): Usage {
  return Object.fromEntries(QUANTITIES.map((each) => [each, Math.max(a[each], b[each])])) as Usage;
}
