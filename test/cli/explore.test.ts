import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { junitErrors } from '../report/formats.ts';
import { BIN, barter, endOf, spawnBarter } from './barter.ts';

const folder = mkdtempSync(join(tmpdir(), 'barter-explore-'));
after(() => rmSync(folder, { recursive: true, force: true }));
const inFolder = (name: string) => join(folder, name);

test('a search that finds nothing exits with 0 and says that it is complete', () => {
  const { status, stdout } = barter('explore', 'revoke-vs-map:2', '--json');
  assert.equal(status, 0);
  const { executions, blocked, complete, bug, steps, seconds } = JSON.parse(stdout);
  assert.deepEqual({ executions, blocked, complete, bug }, { executions: 29, blocked: 0, complete: true, bug: null });
  assert.ok(steps > executions && seconds > 0);
});

test('a bug exits with 1, shows its schedule, and leaves a replay file and a page', () => {
  const file = inFolder('found.json');
  const page = inFolder('found.html');
  const { status, stdout } = barter(
    ...['explore', 'revoke-vs-detach', '--mutant', 'L12-lock-destroyed-early'],
    ...['--replay-file', file, '--html', page],
  );
  assert.equal(status, 1);
  assert.match(stdout, /I5: the invalidate callback after importer was freed/);
  assert.match(stdout, /^\s*\d+! .*\n? .*src\/\S+:\d+$/m);
  for (const line of stdout.split('\n')) assert.ok(line.length <= 80 || line.startsWith('Run it'), line);
  assert.match(readFileSync(page, 'utf8'), /<h1>revoke-vs-detach with L12-lock-destroyed-early<\/h1>/);

  const again = barter('replay', file);
  assert.equal(again.status, 1);
  assert.match(again.stdout, /I5: the invalidate callback after importer was freed/);
  assert.doesNotMatch(again.stdout, /not the run of the file/);
  assert.match(barter('replay', file, '--stacks').stdout, /\n {8}\S* ?src\/\S+:\d+\n/);
  const { matches, bug } = JSON.parse(barter('replay', file, '--json').stdout);
  assert.deepEqual([matches, bug.invariant], [true, 'I5']);
  const piped = 'cat "$0" | "$1" "$2" replay /dev/stdin --json';
  const { stdout: fromPipe } = spawnSync('sh', ['-c', piped, file, process.execPath, BIN], { encoding: 'utf8' });
  assert.equal(JSON.parse(fromPipe).matches, true, 'a pipe can be read once');
});

test('Ctrl-C stops a search and leaves a file, from which it goes on', async () => {
  const file = inFolder('stopped.json');
  const args = ['explore', 'revoke-vs-attach:5', '--workers', '2', '--save', file, '--json'];
  // It listens while it searches. How soon it starts depends on the machine.
  for (let ms = 1500; !existsSync(file) && ms < 60_000; ms *= 2) {
    const child = spawnBarter(...args);
    await new Promise((resolve) => setTimeout(resolve, ms));
    const how = await endOf(child, 'SIGINT');
    assert.ok(how === 130 || how === 'SIGINT', `${how}`);
  }
  const { totals } = JSON.parse(readFileSync(file, 'utf8'));
  const { status, stdout } = barter('explore', '--resume', file, '--max', `${totals.executions + 5}`, '--json');
  const { scenario, executions, blocked, complete, bug } = JSON.parse(stdout);
  assert.deepEqual(
    { status, scenario, executions, blocked, complete, bug },
    {
      ...{ status: 0, scenario: 'revoke-vs-attach:5', executions: totals.executions + 5 },
      ...{ blocked: 0, complete: false, bug: null },
    },
  );
  writeFileSync(file, readFileSync(file, 'utf8').replace('"revoke-vs-attach:5"', '"revoke-vs-unmap"'));
  assert.deepEqual([barter('explore', '--resume', file).status, barter('explore', '--resume', page()).status], [2, 2]);
});

/** A file that the command did not write. */
function page(): string {
  const file = inFolder('page.html');
  writeFileSync(file, '<html></html>');
  return file;
}

test('a replay that is not the run of its file says so', () => {
  const file = inFolder('stale.json');
  barter('explore', 'revoke:2', '--mutant', 'classic-no-drain', '--replay-file', file, '--json');
  const replay = JSON.parse(readFileSync(file, 'utf8'));
  writeFileSync(file, JSON.stringify({ ...replay, mutant: null }));
  const { status, stdout } = barter('replay', file);
  assert.equal(status, 1);
  assert.match(stdout, /not the run of the file/);
  writeFileSync(file, '{"some":"thing"}');
  assert.deepEqual(
    [barter('replay', file).status, barter('replay', inFolder('none.json')).status],
    [2, 2],
    'no replay file, and no file',
  );
});

test('every mutant, as JSON, and as JUnit', async () => {
  const { status, stdout } = barter('explore', '--mutants', '--json', '--report', `junit=${inFolder('mutants.xml')}`);
  assert.equal(status, 0);
  const { mutants } = JSON.parse(stdout);
  assert.ok(mutants.length >= 30);
  for (const { name, invariant, caught, seconds, schedule, preemptions } of mutants) {
    assert.ok(caught && seconds < 10 && schedule.length > 0 && preemptions >= 0, `${name} ${invariant}`);
  }
  const report = readFileSync(inFolder('mutants.xml'), 'utf8');
  assert.deepEqual(await junitErrors([report]), []);
  assert.equal(report.match(/<testcase /g)?.length, mutants.length);
});

test('scenarios are in groups, and every name is there once', () => {
  const { stdout } = barter('scenarios');
  assert.match(stdout, /^Importers in other processes:\nrevoke-vs-remote-answer /m);
  const words = stdout.split(/\s+/);
  const { scenarios } = JSON.parse(barter('scenarios', '--json').stdout);
  for (const { name } of scenarios) assert.equal(words.filter((word) => word === name).length, 1, name);
  for (const line of stdout.split('\n')) assert.ok(line.length <= 80, line);
});

test('a bug is printed though its files cannot be written, and each of them is told', () => {
  const { status, stdout, stderr } = barter(
    ...['explore', 'revoke:2', '--mutant', 'classic-no-drain'],
    ...['--replay-file', '/proc/none/x.json', '--html', '/proc/none/x.html'],
  );
  assert.equal(status, 1);
  assert.match(stdout, /! {2}I2: a revoke returned with 1 mappings/);
  assert.match(stderr, /^barter: \/proc\/none\/x\.html cannot be written: .*--html FILE\n/);
  assert.match(stderr, /\nbarter: \/proc\/none\/x\.json cannot be written: .*--replay-file FILE\n$/);
});

test('an unknown mutant or scenario, or an impossible size, is wrong usage', () => {
  for (const args of [
    ['revoke-vs-map', '--mutant', 'L99'],
    ['no-such'],
    ['revoke-vs-map', '--algorithm', 'stateful'],
    ['revoke:2', '--workers', '0'],
    ['revoke-vs-map:9'],
    ['flr-vs-flr:2'],
    [],
  ]) {
    const { status, stderr } = barter('explore', ...args);
    assert.equal(status, 2, args.join(' '));
    assert.match(stderr, /^barter: /);
  }
  assert.ok(!existsSync('no-such.replay.json'));
});
