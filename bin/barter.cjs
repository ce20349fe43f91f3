#!/usr/bin/env node
// The command runs its TypeScript as it is; tsx takes the types away when a file is loaded. A server starts from a
// bundle, and its serving thread starts before all else. CommonJS, because Node runs that sooner.
'use strict';
const { join } = require('node:path');

async function serve() {
  const { Worker } = require('node:worker_threads');
  const thread = new Worker(join(__dirname, '../scripts/bundled-thread.cjs'));
  try {
    const { bundled } = require('../scripts/bundle.cjs');
    const bundle = await bundled();
    if (bundle === null) return await run();
    thread.postMessage(bundle.thread);
    const { runCached } = require('../scripts/code-cache.cjs');
    await runCached(bundle.main).main(process.argv, thread);
  } finally {
    // Where there was nothing to serve it ends by itself: stopping a thread while it loads koffi aborts the process.
    thread.postMessage(null);
  }
}

async function run() {
  const { register } = await import('tsx/esm/api');
  register();
  const { main } = await import('../src/cli/main.ts');
  await main(process.argv);
}

if (process.argv[2] === 'serve') serve();
else run();
