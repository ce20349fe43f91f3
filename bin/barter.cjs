#!/usr/bin/env node
// The `barter` command: runs dist/. In a clone it first builds dist/ if the sources changed; a package contains it. A
// server runs from a bundle, and its serving thread starts before all else. CommonJS, since Node starts that sooner.
'use strict';
const { existsSync } = require('node:fs');
const { join } = require('node:path');

const root = join(__dirname, '..');
const dist = (path) => join(root, 'dist', path);

/** Installs the dependencies of a fresh clone. Returns false if that failed; npm has said why. */
function isInstalled() {
  if (existsSync(join(root, 'node_modules'))) return true;
  const { spawnSync } = require('node:child_process');
  const { status } = spawnSync(process.execPath, [join(root, 'scripts', 'bootstrap.mjs')], { stdio: 'inherit' });
  process.exitCode = status ?? 1;
  return status === 0;
}

/**
 * Builds dist/ in a clone, by a function of scripts/build.cjs. Returns false, with the reason printed, if that failed. A
 * package needs no build.
 */
function isBuilt(ensure) {
  if (!existsSync(join(root, 'scripts', 'build.cjs'))) return true;
  if (!isInstalled()) return false;
  try {
    require('../scripts/build.cjs')[ensure]();
    return true;
  } catch (error) {
    console.error(`barter: ${error.message}`);
    process.exitCode = 1;
    return false;
  }
}

async function serve() {
  const { Worker } = require('node:worker_threads');
  const thread = new Worker(join(__dirname, 'serve-thread.cjs'));
  try {
    // The page of --http has files that are in no bundle.
    const hasPage = process.argv.some((word) => word.startsWith('--http'));
    if (!isBuilt(hasPage ? 'ensureBuilt' : 'ensureServerBuilt')) return;
    thread.postMessage(dist('bundle/serve-worker.cjs'));
    const { runCached } = require('./code-cache.cjs');
    await runCached(dist('bundle/main.cjs')).main(process.argv, thread);
  } finally {
    // Without a file to run the thread ends by itself. Stopping a thread while it loads koffi aborts the process.
    thread.postMessage(null);
  }
}

async function run() {
  if (!isBuilt('ensureBuilt')) return;
  const { main } = await import('../dist/src/cli/main.js');
  await main(process.argv);
}

if (process.argv[2] === 'serve') serve();
else run();
