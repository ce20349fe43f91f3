/** Where the lab keeps what it fetched and built: outside the clone, shared by all clones, one writer at a time. */
import { existsSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

export function labCache(): string {
  const base = process.env.BARTER_CACHE ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'barter');
  return join(base, 'lab');
}

/** Where a part of the lab is: `root` is the folder of the distribution that QEMU and the compiler come from. */
export function labPath(...parts: string[]): string {
  return join(labCache(), ...parts);
}

/** A stage that was completed, and what it was made of: another `key` makes it again. */
export function isStamped(stage: string, key: string): boolean {
  const path = labPath(`${stage}.done`);
  return existsSync(path) && readFileSync(path, 'utf8') === key;
}

export function stamp(stage: string, key: string): void {
  writeFileSync(labPath(`${stage}.done`), key);
}

export function unstamp(stage: string): void {
  rmSync(labPath(`${stage}.done`), { force: true });
}

/** Holds the cache for writing. Throws where another process that lives has it; a dead one's lock is taken over. */
export function lockCache(): () => void {
  mkdirSync(labCache(), { recursive: true });
  const path = labPath('lock');
  for (;;) {
    try {
      writeSync(openSync(path, 'wx'), String(process.pid));
      return () => rmSync(path, { force: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    const holder = Number(readFileSync(path, 'utf8'));
    if (holder > 0 && existsSync(`/proc/${holder}`) && holder !== process.pid) {
      throw new Error(`process ${holder} is preparing the lab; wait for it, or end it`);
    }
    rmSync(path, { force: true });
  }
}
