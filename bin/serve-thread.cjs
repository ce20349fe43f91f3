// The thread of a server. It starts while the main thread still looks for its file, and gets the file's path by
// message, or null if there is nothing to run.
'use strict';
const { parentPort } = require('node:worker_threads');
const { runCached } = require('./code-cache.cjs');

parentPort.once('message', (path) => {
  if (path !== null) runCached(path);
});
