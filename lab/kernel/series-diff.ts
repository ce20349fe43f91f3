/** A series as a patch that git am and patch -p1 take, for a mail: the project keeps no line of the kernel itself. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { wrapped } from '../../src/report/wrap.ts';
import { CommandError, WrongUse } from '../host/command.ts';
import { applyEdit } from './edit.ts';
import type { Change } from './series.ts';

/** Returns the changes against the kernel source in `source`. A change that is a patch already is returned as it is. */
export function seriesAsPatch(source: string, changes: readonly Change[]): string {
  /** The files as the changes so far left them. */
  const files = new Map<string, string>();
  return changes
    .map((change) => (change.kind === 'patch' ? change.text : editAsPatch(source, change, files)))
    .join('\n');
}

function editAsPatch(source: string, change: Change & { kind: 'edit' }, files: Map<string, string>): string {
  const before = new Map<string, string>();
  for (const each of change.edits) {
    const path = join(source, each.file);
    if (!files.has(each.file)) {
      if (!existsSync(path)) throw new WrongUse(`${change.title}: the kernel has no ${each.file}`);
      files.set(each.file, readFileSync(path, 'utf8'));
    }
    const text = files.get(each.file) as string;
    if (!before.has(each.file)) before.set(each.file, text);
    files.set(each.file, applyEdit(text, each));
  }
  const diffs = [...before].map(([file, text]) => unifiedDiff(file, text, files.get(file) as string));
  return `Subject: [PATCH] ${change.title}\n\n${wrapped(change.why)}\n---\n${diffs.join('')}`;
}

/** Runs diff(1), which shows the function of each hunk. */
function unifiedDiff(file: string, before: string, after: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'barter-diff-'));
  try {
    writeFileSync(join(folder, 'a'), before);
    writeFileSync(join(folder, 'b'), after);
    const labels = ['--label', `a/${file}`, '--label', `b/${file}`];
    const { status, stdout, error } = spawnSync('diff', ['-up', ...labels, 'a', 'b'], {
      cwd: folder,
      encoding: 'utf8',
    });
    if (status !== 1) throw new CommandError(`diff -up found no change of ${file}: ${error?.message ?? status}`);
    return stdout;
  } finally {
    rmSync(folder, { recursive: true });
  }
}
