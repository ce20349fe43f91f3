#!/usr/bin/env node
// The command runs its TypeScript as it is; tsx takes the types away when a file is loaded. A server starts from one
// file, and its serving thread loads while the command line does.
import { dirname, join } from 'node:path';

let main = null;
let thread;
if (process.argv[2] === 'serve') {
  const { bundledMain } = await import('../scripts/bundle.mjs');
  const bundle = await bundledMain();
  if (bundle !== null) {
    const { Worker } = await import('node:worker_threads');
    thread = new Worker(join(dirname(bundle), 'serve-worker.js'));
    // Where there is nothing to serve, it keeps nobody.
    thread.unref();
    ({ main } = await import(bundle));
  }
}
if (main === null) {
  const { register } = await import('tsx/esm/api');
  register();
  ({ main } = await import('../src/cli/main.ts'));
}
await main(process.argv, thread);
