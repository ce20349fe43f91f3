import assert from 'node:assert/strict';
import { readdirSync, readlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Threads of the TypeScript loader open and close its cache folder at any time. */
const LOADERS = join(tmpdir(), 'tsx-');

/** The open descriptors of this process, by what they refer to. */
export function openFds(): string[] {
  const out: string[] = [];
  for (const fd of readdirSync('/proc/self/fd')) {
    try {
      const target = readlinkSync(`/proc/self/fd/${fd}`);
      if (!target.startsWith('/proc/') && !target.startsWith(LOADERS)) out.push(`${fd} ${target}`);
    } catch {
      // the descriptor that reads the directory itself
    }
  }
  return out.sort();
}

/** Runs `body`, which must leave exactly the descriptors that existed before. */
export function leavesNoFds(body: () => void): void {
  const before = openFds();
  body();
  assert.deepEqual(openFds(), before);
}

export async function leavesNoFdsAsync(body: () => Promise<void>): Promise<void> {
  const before = openFds();
  await body();
  assert.deepEqual(openFds(), before);
}
