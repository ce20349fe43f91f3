// Prepares a fresh clone: installs the locked dependencies once, and again only if the lock file changes. Uses plain
// JavaScript and Node alone, since it runs before anything is installed.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const [major, minor] = process.versions.node.split('.').map(Number);
if (major < 20 || (major === 20 && minor < 19)) {
  console.error(`barter needs Node 20.19 or later; this is ${process.version}.`);
  process.exit(2);
}

const stamp = join(root, 'node_modules', '.barter-lock-hash');
const hash = createHash('sha256')
  .update(readFileSync(join(root, 'package-lock.json')))
  .digest('hex');
if (!existsSync(stamp) || readFileSync(stamp, 'utf8') !== hash) {
  console.error('Installing dependencies (once) ...');
  const npm = spawnSync('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], {
    cwd: root,
    stdio: ['ignore', 2, 2],
  });
  if (npm.status !== 0) {
    console.error('npm ci failed; see above. Barter needs the npm registry once, for its dependencies.');
    process.exit(npm.status ?? 1);
  }
  // `npx barter` looks in node_modules/.bin first, so the clone's own command is linked there.
  const link = join(root, 'node_modules', '.bin', 'barter');
  mkdirSync(dirname(link), { recursive: true });
  rmSync(link, { force: true });
  symlinkSync('../../bin/barter.cjs', link);
  writeFileSync(stamp, hash);
}
