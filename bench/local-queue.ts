/** A redis-server of this machine with workers of its queue, for one benchmark. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExploreResult } from '../src/explore/explore.ts';
import { specOf } from '../src/explore/explore.ts';
import { codeHash } from '../src/explore/queue/code-hash.ts';
import { connectQueue } from '../src/explore/queue/connection.ts';
import { exploreOverQueue } from '../src/explore/queue/queue-search.ts';
import { queueStatus } from '../src/explore/queue/status.ts';
import { packageFile } from '../src/linux/package-file.ts';
import { catalogue } from '../src/verify/catalogue.ts';

/** Whether this machine has a redis-server. */
export const hasRedis = (): boolean => spawnSync('redis-server', ['--version']).status === 0;

/** Has as many new worker processes as `workers` search the scenario. The time begins when all of them wait for jobs. */
export async function exploreByWorkers(scenario: string, workers: number): Promise<ExploreResult> {
  const folder = mkdtempSync(join(tmpdir(), 'barter-bench-redis-'));
  const url = `redis://127.0.0.1:${await freePort()}`;
  const started: ChildProcess[] = [startRedis(url, folder)];
  const connection = await connectQueue(url);
  try {
    for (let n = 0; n < workers; n++) {
      const args = [packageFile('bin/barter.cjs'), 'worker', '--queue', url];
      started.push(spawn(process.execPath, args, { stdio: 'ignore' }));
    }
    while ((await queueStatus(connection, codeHash())).workers.length < workers) await sleep(50);
    return await exploreOverQueue({ connection, spec: specOf({ scenario }), catalogue });
  } finally {
    await connection.close();
    for (const process of started.reverse()) {
      const ended = once(process, 'exit');
      process.kill('SIGKILL');
      await ended;
    }
    rmSync(folder, { recursive: true, force: true });
  }
}

function startRedis(url: string, folder: string): ChildProcess {
  const { port, hostname } = new URL(url);
  const args = ['--port', port, '--bind', hostname, '--dir', folder, '--save', '', '--appendonly', 'yes'];
  return spawn('redis-server', args, { stdio: 'ignore' });
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as { port: number };
  probe.close();
  return port;
}
