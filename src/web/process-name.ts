/** What the page calls a process: the command of barter that it runs, or the name of its program. */
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';

const MOST_LETTERS = 40;

/** Empty for a process that is gone. A process chooses both names itself, so they are only for people. */
export function processName(pid: number): string {
  try {
    const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
    const at = words.findIndex((word) => /^barter(\.cjs)?$/.test(basename(word)));
    const name = at < 0 ? readFileSync(`/proc/${pid}/comm`, 'utf8').trim() : `barter ${words[at + 1]}`.trim();
    return name.slice(0, MOST_LETTERS);
  } catch {
    return '';
  }
}
