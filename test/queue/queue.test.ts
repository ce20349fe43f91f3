/** Searches by the workers of a queue. Workers, the asking process and Redis die: the result is that of one thread. */
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExploreOptions, ExploreResult } from '../../src/explore/explore.ts';
import { codeHash } from '../../src/explore/queue/code-hash.ts';
import { connectQueue, type QueueConnection } from '../../src/explore/queue/connection.ts';
import { type QueueStatus, queueStatus } from '../../src/explore/queue/status.ts';
import { explore } from '../../src/verify/explore.ts';
import { barter, spawnBarter } from '../cli/barter.ts';
import { skip, TestRedis } from './redis.ts';

let redis: TestRedis;
let connection: QueueConnection;
const workers: ChildProcess[] = [];
const options = { skip };

before(async () => {
  if (skip !== false) return;
  redis = await TestRedis.start();
  connection = await connectQueue(redis.url);
});

after(async () => {
  for (const worker of workers) worker.kill('SIGKILL');
  await connection?.close();
  await redis?.end();
});

function startWorker(): ChildProcess {
  const worker = spawnBarter('worker', '--queue', redis.url, '--lost-after', '2');
  worker.stderr!.resume();
  workers.push(worker);
  return worker;
}

/** Waits until the status is as wanted. */
async function until(isSo: (status: QueueStatus) => boolean): Promise<QueueStatus> {
  for (;;) {
    const now = await queueStatus(connection, codeHash());
    if (isSo(now)) return now;
    await sleep(20);
  }
}

function ask(...args: string[]): ChildProcess {
  const search = spawnBarter('explore', ...args, '--queue', redis.url, '--json', '--replay-file', '/dev/null');
  search.stderr!.resume();
  return search;
}

/** All that must not depend on the workers. */
function wholeOf({ seconds: _seconds, resume: _resume, bug, ...whole }: ExploreResult): object {
  const { steps: _steps, ...told } = bug ?? { steps: [] };
  return { ...whole, bug: bug === null ? null : told };
}

async function assertSame(search: ChildProcess, scenario: ExploreOptions): Promise<void> {
  const found = JSON.parse(await text(search.stdout!)) as Omit<ExploreResult, 'resume'>;
  assert.deepEqual(wholeOf({ ...found, resume: null }), wholeOf(await explore(scenario)), scenario.scenario);
}

test('three workers, one killed in the middle of a part, the asking process and Redis killed', options, async () => {
  const scenario = 'revoke-vs-attach:3';
  const [first] = [startWorker(), startWorker(), startWorker()];
  await until((now) => now.workers.length === 3);
  const asking = ask(scenario);
  const {
    searches: [{ id }],
  } = await until(({ searches }) => searches.some(({ parts }) => parts > 1));
  asking.kill('SIGKILL');
  first.kill('SIGKILL');
  await redis.restart();
  const { searches } = await until((now) => now.searches.length > 0);
  assert.equal(searches[0].id, id, 'the search goes on without the process that asked');
  await assertSame(ask(scenario), { scenario });
  const { searches: left, jobs } = await until((now) => now.jobs.active === 0);
  assert.deepEqual([left, jobs.waiting], [[], 0], 'nothing is left of it');
});

test('a search for a bug, and a search of draws', options, async () => {
  startWorker();
  await assertSame(ask('revoke:3', '--mutant', 'classic-no-drain'), {
    scenario: 'revoke:3',
    mutant: 'classic-no-drain',
  });
  const scenario = 'revoke-vs-dma';
  await assertSame(ask(scenario, '--algorithm', 'pct', '--max', '400'), { scenario, algorithm: 'pct', max: 400 });
});

test('a worker refuses a file that is not the one that it loaded', options, async () => {
  for (const worker of workers) worker.kill('SIGKILL');
  const folder = mkdtempSync(join(tmpdir(), 'barter-queue-'));
  const file = join(folder, 'mine.mjs');
  const write = (value: number): void =>
    writeFileSync(
      file,
      `import { Cell } from 'barter/tasks';
export const mine = { name: 'mine', summary: '', build(stage) {
  const cell = new Cell('cell', 0);
  for (const label of ['a', 'b']) stage.spawn(label, (function* () { yield* cell.store(${value}); })());
} };`,
    );
  try {
    write(1);
    startWorker();
    const first = JSON.parse(await text(ask(`${file}:mine`).stdout!)) as ExploreResult;
    assert.deepEqual([first.executions, first.complete], [2, true]);
    write(2);
    const asking = spawnBarter('explore', `${file}:mine`, '--queue', redis.url);
    let said = '';
    for await (const more of asking.stderr!) {
      said += more;
      if (said.includes('start it again')) break;
    }
    asking.kill('SIGKILL');
    assert.match(said, /worker \S+ refuses: \S+mine is not the same file there; it loaded an earlier one/);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('what cannot be says why in one line', options, () => {
  const refused = (...args: string[]): string => {
    const { status: code, stderr } = barter(...args);
    assert.equal(code, 2, stderr);
    return stderr.trim();
  };
  const queue = ['--queue', redis.url];
  assert.match(refused('explore', 'revoke:3', ...queue, '--workers', '2'), /a search of a queue has no --workers/);
  assert.match(refused('explore', 'revoke:3', ...queue, '--algorithm', 'stateful'), /a stateful search has one thread/);
  assert.match(refused('worker', '--queue', 'redis://127.0.0.1:1'), /nothing listens there; start redis-server/);
  assert.match(refused('worker', '--queue', 'localhost'), /--queue localhost: not an address of a Redis/);
  assert.match(refused('queue', 'drop', 'none', ...queue), /there is no search none; barter queue status lists them/);
});
