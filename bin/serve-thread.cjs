// The thread of a server: it starts while the rest is still looked for, and is told which file to run; null where nothing
// is to be run.
'use strict';
const { parentPort } = require('node:worker_threads');
const { runCached } = require('./code-cache.cjs');

parentPort.once('message', (path) => {
  if (path !== null) runCached(path);
});
