/** Reads and writes files of commands. Errors say which file, why, and what to do. */
import { accessSync, constants, mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
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

/** UsageError where a file cannot be written. For commands that write it after minutes of work. */
export function demandWritable(path: string, option: string): void {
  try {
    const isThere = statSync(path, { throwIfNoEntry: false });
    if (isThere?.isDirectory() === true) throw Object.assign(new Error(), { code: 'EISDIR' });
    accessSync(isThere === undefined ? dirname(path) : path, constants.W_OK);
  } catch (error) {
    throw new UsageError(`${path} cannot be written: ${reasonOf(error)}; choose another with ${option}`);
  }
}

/** UsageError where a file is missing, is a folder, or cannot be opened to read. */
export function demandReadable(path: string, option: string): void {
  try {
    if (statSync(path).isDirectory()) throw Object.assign(new Error(), { code: 'EISDIR' });
    accessSync(path, constants.R_OK);
  } catch (error) {
    throw new UsageError(`${path} cannot be read: ${reasonOf(error)}; choose another with ${option} FILE`);
  }
}

/** UsageError where a folder is missing, or is not one. */
export function demandFolder(path: string, option: string): void {
  try {
    if (!statSync(path).isDirectory()) throw Object.assign(new Error(), { code: 'ENOTDIR' });
  } catch (error) {
    throw new UsageError(`${path} is not a folder: ${reasonOf(error)}; choose another with ${option} DIR`);
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
