/** A series of changes to a kernel's source: an mbox, a folder of patches, or an edit in this project's format. */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { readGiven, WrongUse } from '../host/command.ts';
import { type KernelEdit, parseEdit } from './edit.ts';

export type Change = { kind: 'patch'; title: string; text: string } | ({ kind: 'edit' } & KernelEdit);

/** Reads the changes in order. Throws WrongUse if there are none. */
export function readSeries(path: string): Change[] {
  const changes = filesOf(path).flatMap(changesOf);
  if (changes.length === 0) throw new WrongUse(`${path} has no patch: give an mbox, or a folder of *.patch files`);
  return changes;
}

/** A hash of every byte of the series. */
export function seriesKey(path: string): string {
  const hash = createHash('sha256');
  for (const file of filesOf(path)) hash.update(basename(file)).update(readGiven(file));
  return hash.digest('hex');
}

function filesOf(path: string): string[] {
  if (!existsSync(path)) throw new WrongUse(`there is no ${path}`);
  if (!statSync(path).isDirectory()) return [path];
  const names = readdirSync(path).filter((name) => /\.(patch|diff|mbox|ya?ml)$/.test(name));
  return names.sort().map((name) => join(path, name));
}

function changesOf(file: string): Change[] {
  const text = readGiven(file).toString('utf8');
  if (/\.ya?ml$/.test(file)) return [{ kind: 'edit', ...parseEdit(text, file) }];
  // A mail begins with "From " and, if git wrote it, a commit.
  return text
    .split(/^(?=From [0-9a-f]{40} |From \S+@\S+ )/m)
    .filter((mail) => /^(diff --git|--- \S)/m.test(mail))
    .map((mail) => ({ kind: 'patch' as const, title: titleOf(mail) ?? basename(file), text: mail }));
}

/** A subject may continue on lines that begin with a space. */
function titleOf(mail: string): string | null {
  const subject = /^Subject: (.*(?:\n[ \t].*)*)/m.exec(mail)?.[1];
  return subject === undefined ? null : subject.replaceAll(/\n[ \t]+/g, ' ').replace(/^\[[^\]]*\]\s*/, '');
}
