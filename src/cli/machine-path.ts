/** Which file a command means by the path of a machine. */
import { existsSync } from 'node:fs';
import { packageFile } from '../linux/package-file.ts';

/** The path itself; where there is no such file, the package's own: `examples/two-peers.yaml` works without a clone. */
export function machinePath(path: string): string {
  const shipped = packageFile(path);
  return !existsSync(path) && existsSync(shipped) ? shipped : path;
}
