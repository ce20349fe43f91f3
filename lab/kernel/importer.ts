/** The source of the importer, which is a module of every lab kernel or built in. */
import { createHash } from 'node:crypto';
import { copyFileSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageFile } from '../../src/linux/package-file.ts';

const FOLDER = packageFile('lab/importer');

/** A hash of every byte of the source. */
export function importerKey(): string {
  const hash = createHash('sha256');
  for (const file of readdirSync(FOLDER).sort()) hash.update(file).update(readFileSync(join(FOLDER, file)));
  return hash.digest('hex');
}

/** The C files, by name. */
export function importerSources(): Map<string, string> {
  const files = readdirSync(FOLDER).filter((file) => /\.[ch]$/.test(file));
  return new Map(files.sort().map((file) => [file, readFileSync(join(FOLDER, file), 'utf8')]));
}

/** Copies all files from which the module is built. */
export function copyImporterTo(folder: string): void {
  for (const file of readdirSync(FOLDER)) copyFileSync(join(FOLDER, file), join(folder, file));
}
