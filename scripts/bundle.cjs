// Two files of JavaScript for `barter serve`, made when the sources changed: loading a hundred modules of TypeScript
// takes longer than a server may take to listen. Everything else runs from the sources.
'use strict';
const { existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync } = require('node:fs');
const { join } = require('node:path');
const { crc32 } = require('node:zlib');

const root = join(__dirname, '..');
const dist = join(root, 'dist');
const DAY_MS = 86_400_000;

/** Names, sizes and times of all sources, so that no edit is missed: what the bundle takes of them may change. */
function fingerprint() {
  let sources = `${process.version} ${process.arch}\n`;
  const add = (path) => {
    const stat = statSync(`${root}/${path}`, { throwIfNoEntry: false });
    if (stat !== undefined) sources += `${path} ${stat.mtimeMs} ${stat.size}\n`;
  };
  for (const path of ['package.json', 'package-lock.json', 'scripts/bundle.cjs']) add(path);
  const walk = (folder) => {
    for (const entry of readdirSync(`${root}/${folder}`, { withFileTypes: true })) {
      const path = `${folder}/${entry.name}`;
      if (entry.isDirectory()) walk(path);
      else add(path);
    }
  };
  walk('src');
  return crc32(sources).toString(16).padStart(8, '0');
}

/** What a server does not need. */
const OTHER_COMMANDS = ['demo', 'import', 'machine', 'run', 'explore', 'replay', 'lab', 'bench'];

/** koffi's own JavaScript is bundled where its native module can be found from here as well; npm puts it so. */
function koffiOutside() {
  try {
    require.resolve(`@koromix/koffi-${process.platform}-${process.arch}`);
    return '@koromix/*';
  } catch {
    return 'koffi';
  }
}

async function build(target) {
  const esbuild = await import('esbuild');
  const making = join(dist, `.making-${process.pid}`);
  await esbuild.build({
    entryPoints: [join(root, 'src/cli/main.ts'), join(root, 'src/machine/serve-worker.ts')],
    outdir: making,
    entryNames: '[name]',
    outExtension: { '.js': '.cjs' },
    bundle: true,
    format: 'cjs',
    platform: 'node',
    target: 'node20',
    external: [koffiOutside(), ...OTHER_COMMANDS.map((name) => `./${name}.ts`)],
    define: { 'import.meta.url': 'moduleUrl' },
    banner: { js: "const moduleUrl = require('node:url').pathToFileURL(__filename).href;" },
    minify: true,
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

/** The bundled src/cli/main.ts and src/machine/serve-worker.ts; null where none can be made, as in another's folder. */
exports.bundled = async () => {
  try {
    const target = join(dist, fingerprint());
    if (!existsSync(target)) {
      mkdirSync(dist, { recursive: true });
      await build(target);
    }
    return { main: join(target, 'main.cjs'), thread: join(target, 'serve-worker.cjs') };
  } catch {
    return null;
  }
};
