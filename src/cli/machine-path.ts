/** Resolves the path of a machine to a file. */
import { existsSync } from 'node:fs';
import { packageFile } from '../linux/package-file.ts';

/**
 * The path itself; if there is no such file, the package's own copy: `examples/two-peers.yaml` works without a clone.
 */
export function machinePath(path: string): string {
  const shipped = packageFile(path);
  return !existsSync(path) && existsSync(shipped) ? shipped : path;
}
