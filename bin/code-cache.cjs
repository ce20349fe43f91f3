// Runs a file without compiling it anew: a process that ends normally keeps V8's compiled code in the user's cache
// folder. Node has this built in from 22 on (module.enableCompileCache).
'use strict';
const { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } = require('node:fs');
const { createRequire } = require('node:module');
const { homedir } = require('node:os');
const { basename, dirname, join } = require('node:path');
const { Script } = require('node:vm');
const { crc32 } = require('node:zlib');

const MONTH_MS = 30 * 86_400_000;

function read(path) {
  try {
    return readFileSync(path);
  } catch {
    return undefined;
  }
}

/** The path of a source's compiled code. V8 trusts the data it gets, so the name encodes path, time and version. */
function cachePath(path) {
  const { mtimeMs, size } = statSync(path);
  const name = crc32(`${path} ${mtimeMs} ${size} ${process.version} ${process.arch}`).toString(16).padStart(8, '0');
  const caches = process.env.XDG_CACHE_HOME || join(homedir(), '.cache');
  return join(caches, 'barter', 'code', `${basename(path, '.cjs')}-${name}`);
}

/** Returns the exports of the CommonJS file at `path`, which must be ASCII. V8 refuses code of another version. */
exports.runCached = (path) => {
  const cache = cachePath(path);
  const source = `(function (exports, require, module, __filename, __dirname) {${readFileSync(path, 'latin1')}\n})`;
  const cachedData = read(cache);
  const script = new Script(source, { filename: path, cachedData });
  const known = script.cachedDataRejected === false ? cachedData.length : 0;
  process.once('exit', () => keep(script, cache, known));
  const module = { exports: {} };
  script.runInThisContext()(module.exports, createRequire(path), module, path, dirname(path));
  return module.exports;
};

/**
 * Keeps the compiled code if it grew beyond `known` bytes: a server compiles more than a call that only prints help. A
 * hundredth more is worth a write of the file.
 */
function keep(script, cache, known) {
  const data = script.createCachedData();
  if (data.length < 1.01 * known) return;
  const making = `${cache}.${process.pid}`;
  const folder = dirname(cache);
  try {
    mkdirSync(folder, { recursive: true });
    const isOld = (path) => Date.now() - statSync(path).mtimeMs > MONTH_MS;
    for (const name of readdirSync(folder)) if (isOld(join(folder, name))) rmSync(join(folder, name), { force: true });
    // V8 does not check the data: a file cut short by a crash of the machine would crash every server.
    writeFileSync(making, data, { flush: true });
    renameSync(making, cache);
  } catch {
    // This process may not write to the folder, so the next server compiles too.
  }
}
