/** Modules of users: a program to explore, a device of their own. */
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

/** This Node cannot load the file; the message says what to install. */
export class UnloadableFileError extends Error {}

/** This file can be TypeScript only where something takes the types away for all files. */
const takesTypes =
  import.meta.url.endsWith('.ts') || Boolean((process.features as { typescript?: unknown }).typescript);

/**
 * Imports a file of JavaScript or TypeScript. Node takes TypeScript by itself from 22.18 on; before, the package tsx
 * has to be installed. UnloadableFileError where it is missing; otherwise whatever the file throws.
 */
export async function importUserModule(file: string): Promise<Record<string, unknown>> {
  if (/\.[cm]?ts$/.test(file) && !takesTypes) await registerTsx(file);
  return (await import(pathToFileURL(resolve(file)).href)) as Record<string, unknown>;
}

async function registerTsx(file: string): Promise<void> {
  const tsx = await import('tsx/esm/api').catch(() => null);
  if (tsx === null) {
    throw new UnloadableFileError(
      `${file}: Node ${process.versions.node} does not take TypeScript; run npm install --save-dev tsx`,
    );
  }
  tsx.register();
}
