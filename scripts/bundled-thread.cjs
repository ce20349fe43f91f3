// The thread of a bundled server: it starts while the bundle is still looked for, and is told where it is;
// null where nothing is to be run.
'use strict';
const { parentPort } = require('node:worker_threads');
const { runCached } = require('./code-cache.cjs');

parentPort.once('message', (path) => {
  if (path !== null) runCached(path);
});
