// Installs the distribution's packages that a test needs, if it runs as root and has apt. Prints what it installs, or
// the command to run instead. Plain JavaScript with nothing but Node.
import { spawnSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

/** Finds a program on the path; null where it is not there. */
export function findProgram(name) {
  const paths = (process.env.PATH ?? '').split(delimiter).map((folder) => join(folder, name));
  return paths.find(isExecutable) ?? null;
}

function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** Whether a program is on the path. */
function hasProgram(name) {
  return findProgram(name) !== null;
}

/** Makes `program` available by installing `packages`; returns whether it is there now. */
export function ensure(program, packages) {
  if (hasProgram(program)) return true;
  const advice = `apt-get install --no-install-recommends ${packages.join(' ')}`;
  if (process.getuid?.() !== 0 || !hasProgram('apt-get')) {
    console.error(`${program} is missing, and only root can install it. Run: ${advice}`);
    return false;
  }
  console.error(`${program} is missing; installing ${packages.join(', ')} (once) ...`);
  const started = Date.now();
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const apt = (...args) => spawnSync('apt-get', ['-q', '-y', ...args], { env, encoding: 'utf8' });
  let result = apt('install', '--no-install-recommends', ...packages);
  if (result.status !== 0) {
    // Without package lists apt finds no package.
    apt('update');
    result = apt('install', '--no-install-recommends', ...packages);
  }
  if (result.status === 0 && hasProgram(program)) {
    console.error(`${program}: installed in ${((Date.now() - started) / 1000).toFixed(0)} s`);
    return true;
  }
  const tail = `${result.stdout ?? ''}${result.stderr ?? ''}`.trimEnd().split('\n').slice(-5).join('\n  ');
  console.error(`${program} could not be installed by "${advice}":\n  ${tail}`);
  return false;
}
