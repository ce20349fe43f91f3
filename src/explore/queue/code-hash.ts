/** Hashes of the code that a search runs. Hosts with different code would make different parts. */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { PACKAGE_ROOT } from '../../linux/package-file.ts';
import type { SearchSpec } from '../spec.ts';

/** The hash of this package's sources, which are also beside the built package. */
export function codeHash(): string {
  const root = join(PACKAGE_ROOT, 'src');
  const files = readdirSync(root, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
  const hash = createHash('sha256');
  for (const file of files)
    hash
      .update(`${relative(root, file)}\0`)
      .update(readFileSync(file))
      .update('\0');
  return hash.digest('hex').slice(0, 12);
}

/** The hash of a user's file, without the files that it imports; empty for a program of this package. */
export function programHash(scenario: string): string {
  const file = /^(.*\.[cm]?[jt]s)(?::|$)/.exec(scenario)?.[1];
  if (file === undefined || !existsSync(file)) return '';
  return createHash('sha256').update(readFileSync(file)).digest('hex').slice(0, 12);
}

/** The name of a search: the same for each who asks for the same search of the same program. */
export function searchId(code: string, program: string, spec: SearchSpec): string {
  const text = JSON.stringify([code, program, Object.entries(spec).sort()]);
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}
