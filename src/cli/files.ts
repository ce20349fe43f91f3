/** Reads and writes files of commands. Errors say which file, why, and what to do. */
import { mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { reasonOf, UsageError } from './usage.ts';

/** The bytes of a file. UsageError if it cannot be read. */
export function readBytes(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new UsageError(`${path} cannot be read: ${reasonOf(error)}`);
  }
}

/** The JSON of a file, whose bytes the caller may have. UsageError if it cannot be read, or does not hold an object. */
export function readJson(path: string, bytes = readBytes(path)): object {
  try {
    return Object(JSON.parse(bytes.toString('utf8')));
  } catch {
    throw new UsageError(`${path} is not JSON; barter explore writes files for replay and --resume`);
  }
}

/**
 * Writes a file whole or not at all. A device or a pipe takes the bytes itself: a rename would replace it. `option` is
 * the option that chooses another file. UsageError if it cannot be written: call this after the results are printed.
 */
export function writeWhole(path: string, content: string | Uint8Array, option: string): void {
  try {
    if (statSync(path, { throwIfNoEntry: false })?.isFile() === false) {
      writeFileSync(path, content);
      return;
    }
    writeFileSync(`${path}.new`, content);
    renameSync(`${path}.new`, path);
  } catch (error) {
    throw new UsageError(`${path} cannot be written: ${reasonOf(error)}; choose another with ${option} FILE`);
  }
}

/** Makes a folder that only this user may enter, unless it exists. UsageError if it cannot be made. */
export function makeFolder(path: string, option: string): void {
  try {
    makeFolders(path);
  } catch (error) {
    throw new UsageError(`${path} cannot be made: ${reasonOf(error)}; choose another with ${option} DIR`);
  }
}

/**
 * Makes a folder and its parents. mkdirSync with `recursive` loops forever if the system gives ENOENT for an existing
 * folder, as /proc does.
 */
function makeFolders(path: string): void {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found?.isDirectory() === true) return;
  if (found === undefined && dirname(path) !== path) makeFolders(dirname(path));
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    // Another process may have made it meanwhile.
    if (statSync(path, { throwIfNoEntry: false })?.isDirectory() !== true) throw error;
  }
}
