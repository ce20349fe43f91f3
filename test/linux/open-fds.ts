import assert from 'node:assert/strict';
import { readdirSync, readlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** What the loader of TypeScript opens and closes on threads of its own, whenever it likes: the folder of its cache. */
const LOADERS = join(tmpdir(), 'tsx-');

/** The open descriptors of this process, by what they are. */
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

/** Runs `body` and checks that it leaves exactly the descriptors that there were. */
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
