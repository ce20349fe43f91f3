// Runs a file without compiling it anew: what V8 made of it is kept beside it when a process ends in good order. Node
// has this built in from 22 on (module.enableCompileCache).
'use strict';
const { readFileSync, renameSync, writeFileSync } = require('node:fs');
const { createRequire } = require('node:module');
const { dirname } = require('node:path');
const { Script } = require('node:vm');

function read(path) {
  try {
    return readFileSync(path);
  } catch {
    return undefined;
  }
}

/** The exports of the CommonJS file at `path`, all of which is ASCII. V8 refuses code of another version. */
exports.runCached = (path) => {
  const cache = `${path}.cache`;
  const source = `(function (exports, require, module, __filename, __dirname) {${readFileSync(path, 'latin1')}\n})`;
  const cachedData = read(cache);
  const script = new Script(source, { filename: path, cachedData });
  const known = script.cachedDataRejected === false ? cachedData.length : 0;
  process.once('exit', () => keep(script, cache, known));
  const module = { exports: {} };
  script.runInThisContext()(module.exports, createRequire(path), module, path, dirname(path));
  return module.exports;
};

/** `known` bytes are of what was compiled before: a server compiles more than one that only prints its help. */
function keep(script, cache, known) {
  const data = script.createCachedData();
  if (data.length < 1.1 * known) return;
  const making = `${cache}.${process.pid}`;
  try {
    // V8 does not check what is in it: half a file, left by a crash of the machine, would crash every server.
    writeFileSync(making, data, { flush: true });
    renameSync(making, cache);
  } catch {
    // The bundle is gone, or is not ours to write: the next server compiles, too.
  }
}
