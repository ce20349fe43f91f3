/** Modules of users: a program to explore, or a device model. */
import { existsSync, readFileSync } from 'node:fs';
import Module, { createRequire, register } from 'node:module';
import { resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

/** This Node cannot load the file; the message says what to install. */
export class UnloadableFileError extends Error {}

const nodeTakesTypes = Boolean((process.features as { typescript?: unknown }).typescript);
/** This file is TypeScript only where a loader strips the types of all files. */
const isTsxThere = import.meta.url.endsWith('.ts');

/**
 * Imports a file of JavaScript or TypeScript, ESM or CommonJS, from any folder. `barter` in it is this package,
 * whatever is installed there. Node takes TypeScript by itself from 22.18 on; earlier versions need the package tsx.
 * UnloadableFileError where that is missing; otherwise the errors of the file.
 */
export async function importUserModule(file: string): Promise<Record<string, unknown>> {
  const path = resolve(file);
  const source = existsSync(path) ? readFileSync(path, 'utf8') : '';
  if (/\.[cm]?ts$/.test(path) && !nodeTakesTypes) await useTsx(file, hasEsm(path, source) || !path.endsWith('.cts'));
  await share(source);
  if (hasEsm(path, source)) asEsm.push(pathToFileURL(path).href);
  registerHooks();
  const module = (await import(pathToFileURL(path).href)) as Record<string, unknown>;
  // Node names only those exports of CommonJS that it finds without running the file.
  const { default: whole } = module;
  return typeof whole === 'object' && whole !== null ? { ...whole, ...module } : module;
}

async function useTsx(file: string, canShare: boolean): Promise<void> {
  if (!canShare) {
    const why = `Node ${process.versions.node} cannot share barter with CommonJS in TypeScript`;
    throw new UnloadableFileError(`${file}: ${why}; write imports, or use Node 22.18 or later`);
  }
  if (isTsxThere) return;
  const tsx = await import('tsx/esm/api').catch(() => null);
  if (tsx === null) {
    throw new UnloadableFileError(
      `${file}: Node ${process.versions.node} does not take TypeScript; run npm install --save-dev tsx`,
    );
  }
  tsx.register();
}

const require = createRequire(import.meta.url);
const OWN_NAME = /^barter(\/|$)/;
/** Paths of this package's entries, for CommonJS. Its cache has these very instances of them. */
const shared = new Map<string, string>();

/** Loads the entries of this package that the file names. */
async function share(source: string): Promise<void> {
  for (const [, name] of source.matchAll(/['"](barter(?:\/[\w-]+)?)['"]/g)) {
    if (shared.has(name)) continue;
    const url = import.meta.resolve(name);
    const path = fileURLToPath(url);
    const module = new Module(path);
    Object.assign(module, { filename: path, loaded: true, exports: await import(url) });
    require.cache[path] = module;
    shared.set(name, path);
  }
}

/** TypeScript with imports and exports of ESM. Loaded as CommonJS, as its package may say, it would get copies. */
function hasEsm(path: string, source: string): boolean {
  return (
    /\.c?ts$/.test(path) && /^\s*(import|export)\b/m.test(source) && !/^\s*(import .*= require|export =)/m.test(source)
  );
}

const asEsm: string[] = [];
let areRegistered = false;

/** Runs once for each thread. `barter` then means this package in every module, ESM or CommonJS. */
function registerHooks(): void {
  register(`data:text/javascript,${encodeURIComponent(HOOKS)}`, {
    data: { asEsm: asEsm.splice(0), own: import.meta.resolve('barter'), from: import.meta.url },
  });
  if (areRegistered) return;
  areRegistered = true;
  const internals = Module as unknown as { _resolveFilename(name: string, ...rest: unknown[]): string };
  const find = internals._resolveFilename;
  internals._resolveFilename = function (this: unknown, name, ...rest) {
    return shared.get(name) ?? find.call(this, name, ...rest);
  };
}

/** The source of the hooks; it runs in Node's own thread for them. */
const HOOKS = `
  let data;
  export function initialize(given) { data = given; }
  export async function resolve(name, context, next) {
    const isOwn = ${OWN_NAME}.test(name);
    const found = await next(name, isOwn ? { ...context, parentURL: data.from } : context);
    return data.asEsm.includes(found.url.replace(/[?].*/, '')) ? { ...found, format: 'module' } : found;
  }
`;
