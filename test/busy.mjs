// npm run test:busy -- [FILES]: runs the suite twice on two cores that four endless loops share. No test may depend on
// how fast the machine is. FILES are tests, as for `npm test`; without them, everything runs.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const RUNS = 2;
const LOOPS = 4;
const root = join(dirname(fileURLToPath(import.meta.url)), '..');
/** All processes share two cores, whatever the machine has. */
const onTwoCores = (command, args) =>
  availableParallelism() > 2 ? ['taskset', ['-c', '0,1', command, ...args]] : [command, args];

const loops = Array.from({ length: LOOPS }, () =>
  spawn(...onTwoCores(process.execPath, ['-e', 'for (;;) {}']), { stdio: 'ignore' }),
);
const stop = () => {
  for (const loop of loops) loop.kill('SIGKILL');
};
process.once('exit', stop);
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.once(signal, () => process.exit(1));

/** Runs the suite once. Its summary is the runner's last lines that begin with this sign. */
async function run(number) {
  const started = performance.now();
  const child = spawn(...onTwoCores(process.execPath, ['scripts/test.mjs', ...process.argv.slice(2)]), {
    cwd: root,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const summary = [];
  let rest = '';
  child.stdout.on('data', (part) => {
    process.stdout.write(part);
    const lines = (rest + part).split('\n');
    rest = lines.pop();
    summary.push(...lines.filter((line) => /^ℹ (tests|pass|fail|cancelled|skipped) /.test(line)));
  });
  const [status] = await once(child, 'close');
  const minutes = ((performance.now() - started) / 60_000).toFixed(1);
  const verdict = status === 0 ? 'passed' : 'FAILED';
  return {
    status,
    line: `run ${number} of ${RUNS}: ${verdict} in ${minutes} min: ${summary.join(', ').replaceAll('ℹ ', '')}`,
  };
}

const results = [];
for (let number = 1; number <= RUNS; number++) results.push(await run(number));
stop();
for (const { line } of results) console.log(line);
process.exitCode = results.every(({ status }) => status === 0) ? 0 : 1;
