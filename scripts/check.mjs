// `npm run check`: every check of the sources that runs no tests. The tools run in parallel, since each mostly waits
// for files or uses one thread. Their results appear in this order.
import { spawn } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');

/** Scripts of package.json, each with the title of its check. */
const CHECKS = [
  ['lint', 'format and lint'],
  ['types', 'types'],
  ['arrows', 'arrows and circles'],
  ['dead-code', 'dead code'],
  ['tidy', 'tidiness'],
];

/** Runs one script. Its output is kept together, since others write at the same time. */
function run([script, title]) {
  return new Promise((resolve) => {
    const started = Date.now();
    const child = spawn('npm', ['run', '--silent', script], { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    const keep = (chunk) => {
      output += chunk;
    };
    child.stdout.on('data', keep);
    child.stderr.on('data', keep);
    child.on('error', (error) => keep(`npm cannot be started: ${error.message}\n`));
    child.on('close', (status) => {
      resolve({ script, title, output, ok: status === 0, seconds: (Date.now() - started) / 1000 });
    });
  });
}

/** True if every check passes. Prints one line for each, and the output of those that fail. */
export async function check() {
  const results = await Promise.all(CHECKS.map(run));
  for (const { script, title, output, ok, seconds } of results) {
    if (!ok) process.stdout.write(`\n${output.trimEnd()}\n`);
    const verdict = ok ? 'ok' : `FAILED; npm run ${script} repeats it`;
    console.log(`== ${title}: ${verdict} (${seconds.toFixed(1)} s)`);
  }
  return results.every((result) => result.ok);
}

if (process.argv[1] === fileURLToPath(import.meta.url) && !(await check())) process.exitCode = 1;
