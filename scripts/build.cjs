// Builds a clone's dist/: JavaScript of every module, declarations for a package, and bundles. Bundles are for the
// server, which must start fast, and for the lab's agent, which runs in the guest. A clone builds again when its
// sources changed.
//   node scripts/build.cjs             without a check of types, so that a clone's command starts soon
//   node scripts/build.cjs --release   with types checked: what npm users get
'use strict';
const {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} = require('node:fs');
const { join } = require('node:path');
const { crc32 } = require('node:zlib');

const root = join(__dirname, '..');
const dist = join(root, 'dist');
const lock = join(root, 'node_modules', '.barter-build-lock');
const STAMP = '.stamp';
const SOURCE_FOLDERS = ['src', 'lab', 'bench', 'examples'];
const CONFIGURATION = [
  'package.json',
  'package-lock.json',
  'tsconfig.json',
  'tsconfig.build.json',
  'scripts/build.cjs',
];
const WAIT_MS = 50;
/** The sources of the server's bundle, a line for each as `lineOf` gives it. */
const SERVER_SOURCES = '.server-sources';

/** A source's name, time and size, which change with every edit; empty for one that is not there. */
function lineOf(path) {
  const stat = statSync(`${root}/${path}`, { throwIfNoEntry: false });
  return stat === undefined ? '' : `${path} ${stat.mtimeMs} ${stat.size}\n`;
}

/** A checksum over the lines of all sources. */
function fingerprint() {
  let sources = '';
  const add = (path) => {
    sources += lineOf(path);
  };
  const walk = (folder) => {
    for (const entry of readdirSync(`${root}/${folder}`, { withFileTypes: true })) {
      const path = `${folder}/${entry.name}`;
      if (entry.isDirectory()) walk(path);
      else if (path.endsWith('.ts')) add(path);
    }
  };
  CONFIGURATION.forEach(add);
  SOURCE_FOLDERS.forEach(walk);
  return crc32(sources).toString(16).padStart(8, '0');
}

function read(path) {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

const isFresh = (wanted) => read(join(dist, STAMP)).startsWith(wanted);

/** Runs TypeScript's compiler into `target`. */
function compile(target, isRelease) {
  const { spawnSync } = require('node:child_process');
  const tsc = join(root, 'node_modules', '.bin', 'tsc');
  const args = ['-p', join(root, 'tsconfig.build.json'), '--outDir', target, ...(isRelease ? [] : ['--noCheck'])];
  const { status, stdout, stderr, error } = spawnSync(tsc, args, { cwd: root, encoding: 'utf8' });
  if (error !== undefined) throw new Error(`the compiler cannot be run (${error.message}); run npm ci`);
  if (status !== 0) throw new Error(`the sources do not compile:\n${stdout}${stderr}`);
}

/** Makes declarations import the .js files: the compiler leaves `.ts` in them. */
function nameDeclarations(folder) {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) nameDeclarations(path);
    else if (path.endsWith('.d.ts')) {
      const text = readFileSync(path, 'utf8');
      writeFileSync(path, text.replace(/((?:from|import\()\s*['"]\.[^'"]*)\.ts(['"])/g, '$1.js$2'));
    }
  }
}

/** Bundles koffi's own JavaScript if its native module is found from here too, which is where npm puts it. */
function koffiOutside() {
  try {
    require.resolve(`@koromix/koffi-${process.platform}-${process.arch}`);
    return '@koromix/*';
  } catch {
    return 'koffi';
  }
}

/** Bundles the server's two threads as one file each, and the lab's agent. */
function bundle(target) {
  const { buildSync } = require('esbuild');
  const common = { bundle: true, platform: 'node', target: 'node20', logLevel: 'silent' };
  // Leaves out all other commands, since a server needs none of them.
  const commands = read(join(root, 'src/cli/main.ts')).matchAll(/import\('(\.\/[\w-]+\.ts)'\)/g);
  const others = [...commands]
    .map(([, path]) => join(root, 'src/cli', path))
    .filter((path) => !path.endsWith('/serve.ts'));
  const { metafile } = buildSync({
    ...common,
    absWorkingDir: root,
    metafile: true,
    entryPoints: [join(root, 'src/cli/main.ts'), join(root, 'src/machine/serve-worker.ts')],
    outdir: join(target, 'bundle'),
    entryNames: '[name]',
    outExtension: { '.js': '.cjs' },
    format: 'cjs',
    external: [koffiOutside(), 'pino', 'prom-client', ...others],
    define: { 'import.meta.url': 'moduleUrl' },
    banner: { js: "const moduleUrl = require('node:url').pathToFileURL(__filename).href;" },
    minify: true,
  });
  const sources = Object.keys(metafile.inputs).filter((path) => !path.includes('node_modules/'));
  writeFileSync(join(target, SERVER_SOURCES), [...CONFIGURATION, ...sources].map(lineOf).join(''));
  buildSync({
    ...common,
    entryPoints: [join(root, 'lab/agent/agent.ts')],
    outfile: join(target, 'bundle', 'agent.mjs'),
    format: 'esm',
    external: ['koffi'],
    // Packages that still call require() find it.
    banner: { js: "import { createRequire as __cr } from 'node:module'; const require = __cr(import.meta.url);" },
  });
}

/** Copies the libraries of the live page, which users do not install, with their licence. */
function vendor(target) {
  const folder = join(target, 'vendor');
  mkdirSync(folder);
  const uplot = join(root, 'node_modules', 'uplot');
  copyFileSync(join(uplot, 'dist', 'uPlot.esm.js'), join(folder, 'uplot.js'));
  copyFileSync(join(uplot, 'dist', 'uPlot.min.css'), join(folder, 'uplot.css'));
  copyFileSync(join(uplot, 'LICENSE'), join(folder, 'uplot.LICENSE'));
}

/** Builds in a folder beside dist/ and renames it, so that no process ever sees a half-built dist/. */
function build(stamp, isRelease) {
  const making = join(root, 'dist.making');
  const old = join(root, 'dist.old');
  // Removes the remains of a killed build.
  for (const left of [making, old]) rmSync(left, { recursive: true, force: true });
  try {
    compile(making, isRelease);
    nameDeclarations(making);
    bundle(making);
    vendor(making);
    writeFileSync(join(making, STAMP), stamp);
    if (existsSync(dist)) renameSync(dist, old);
    renameSync(making, dist);
  } finally {
    rmSync(making, { recursive: true, force: true });
    rmSync(old, { recursive: true, force: true });
  }
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

/** Lets one process build at a time, and takes over the lock of a process that has ended. */
function withLock(action) {
  const sleeper = new Int32Array(new SharedArrayBuffer(4));
  for (;;) {
    try {
      mkdirSync(lock);
      break;
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
      const owner = Number(read(join(lock, 'pid')));
      const age = Date.now() - (statSync(lock, { throwIfNoEntry: false })?.mtimeMs ?? Date.now());
      if (owner > 0 ? !isAlive(owner) : age > 1000) rmSync(lock, { recursive: true, force: true });
      else Atomics.wait(sleeper, 0, 0, WAIT_MS);
    }
  }
  try {
    writeFileSync(join(lock, 'pid'), String(process.pid));
    action();
  } finally {
    rmSync(lock, { recursive: true, force: true });
  }
}

/** Builds dist/ if the sources are newer. Throws an Error with one sentence and the compiler's output. */
exports.ensureBuilt = ({ isRelease = false } = {}) => {
  const wanted = () => `${fingerprint()}${isRelease ? ' release' : ''}`;
  if (isFresh(wanted())) return;
  withLock(() => {
    const stamp = wanted();
    if (!isFresh(stamp)) build(stamp, isRelease);
  });
};

/** As `ensureBuilt`, but looks only at the sources of the server's bundle: a server starts sooner so. */
exports.ensureServerBuilt = () => {
  const lines = read(join(dist, SERVER_SOURCES)).match(/.+\n/g);
  if (lines === null || !lines.every((line) => line === lineOf(line.split(' ', 1)[0]))) exports.ensureBuilt();
};

if (require.main === module) {
  const started = Date.now();
  exports.ensureBuilt({ isRelease: process.argv.includes('--release') });
  console.error(`dist/ is up to date (${((Date.now() - started) / 1000).toFixed(1)} s)`);
}
