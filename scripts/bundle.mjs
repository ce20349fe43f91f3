// One file of JavaScript for `barter serve`, made when the sources changed: loading a hundred modules of TypeScript
// takes longer than a server may take to listen. Everything else runs from the sources.

import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const dist = join(root, 'dist');
const DAY_MS = 86_400_000;

/** Names, sizes and times of all sources, so that no edit is missed: what the bundle takes of them may change. */
function fingerprint() {
  const hash = createHash('sha256').update(process.version);
  const add = (path) => {
    const { mtimeMs, size } = statSync(join(root, path));
    hash.update(`${path} ${mtimeMs} ${size}\n`);
  };
  for (const path of ['package.json', 'package-lock.json', 'scripts/bundle.mjs'])
    if (existsSync(join(root, path))) add(path);
  const walk = (folder) => {
    for (const entry of readdirSync(join(root, folder), { withFileTypes: true })) {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) walk(path);
      else add(path);
    }
  };
  walk('src');
  return hash.digest('hex').slice(0, 16);
}

/** What the command does not need: other commands, and the native module. */
const EXTERNAL = ['koffi', './demo.ts', './machine.ts', './run.ts', './explore.ts', './lab.ts', './bench.ts'];

async function build(target) {
  const { build: bundle } = await import('esbuild');
  const making = join(dist, `.making-${process.pid}`);
  await bundle({
    entryPoints: [join(root, 'src/cli/main.ts'), join(root, 'src/machine/serve-worker.ts')],
    entryNames: '[name]',
    outdir: making,
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    external: EXTERNAL,
    // CommonJS packages inside ask for node:fs and the like.
    banner: {
      js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);",
    },
    minifySyntax: true,
    minifyWhitespace: true,
    logLevel: 'silent',
  });
  try {
    renameSync(making, target);
  } catch (error) {
    // Somebody else was faster; theirs is the same.
    rmSync(making, { recursive: true, force: true });
    if (!existsSync(target)) throw error;
  }
  // A server of a minute ago may still load a part of its own.
  const isOld = (name) => Date.now() - statSync(join(dist, name)).mtimeMs > DAY_MS;
  for (const name of readdirSync(dist).filter(isOld)) rmSync(join(dist, name), { recursive: true, force: true });
}

/** The path of the bundled src/cli/main.ts; null where none can be made (a folder that is not ours to write). */
export async function bundledMain() {
  try {
    const target = join(dist, fingerprint());
    if (!existsSync(target)) {
      mkdirSync(dist, { recursive: true });
      await build(target);
    }
    return join(target, 'main.js');
  } catch {
    return null;
  }
}
