/** Files of this package besides its code: examples, the lab's sources in C, machine files. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

function findRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'package.json'))) folder = dirname(folder);
  return folder;
}

/** The package's own folder. The code runs from src/ or from dist/, so its depth below the folder differs. */
export const PACKAGE_ROOT = findRoot();

/** The absolute path of a file of the package, given from its root. */
export function packageFile(path: string): string {
  return join(PACKAGE_ROOT, path);
}
