/** Machine files of a command line: where they are, and what they say. */
import { existsSync } from 'node:fs';
import { packageFile } from '../linux/package-file.ts';
import type { MachineDescription } from '../machine/description.ts';
import { loadMachine } from '../machine/load.ts';
import { DocumentError } from '../machine/yaml.ts';
import { UsageError } from './usage.ts';

/**
 * The path itself; if there is no such file, the package's own copy: `examples/two-peers.yaml` works without a clone.
 */
function machinePath(path: string): string {
  const shipped = packageFile(path);
  return !existsSync(path) && existsSync(shipped) ? shipped : path;
}

/** Loads a machine file. UsageError with file, line, field and reason. */
export function loadMachineFile(path: string): MachineDescription {
  try {
    return loadMachine(machinePath(path));
  } catch (error) {
    if (error instanceof DocumentError) throw new UsageError(error.message);
    throw error;
  }
}
