/** A redis-server of the distribution for one test file, which `npm test` installs (scripts/ensure-packages.mjs). */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { endOf } from '../cli/barter.ts';

const isThere = spawnSync('redis-server', ['--version']).status === 0;
/** For the `skip` of a test. CI must have a server; elsewhere the test skips with a message. */
export const skip: string | false =
  !isThere && process.env.CI === undefined ? 'no redis-server on this machine; apt-get install redis-server' : false;

/** A server with an append-only file, which can be killed and started again. */
export class TestRedis {
  readonly url: string;
  private readonly port: number;
  private readonly folder = mkdtempSync(join(tmpdir(), 'barter-redis-'));
  private server: ChildProcess | null = null;

  private constructor(port: number) {
    this.port = port;
    this.url = `redis://127.0.0.1:${port}`;
  }

  static async start(): Promise<TestRedis> {
    assert.ok(isThere, 'redis-server is missing; apt-get install redis-server');
    const probe = createServer().listen(0, '127.0.0.1');
    await once(probe, 'listening');
    const { port } = probe.address() as { port: number };
    probe.close();
    const redis = new TestRedis(port);
    await redis.boot();
    return redis;
  }

  /** Kills the server, and starts it from what is on disk. */
  async restart(): Promise<void> {
    await this.kill();
    await this.boot();
  }

  async end(): Promise<void> {
    await this.kill();
    rmSync(this.folder, { recursive: true, force: true });
  }

  private async boot(): Promise<void> {
    const args = ['--port', `${this.port}`, '--bind', '127.0.0.1', '--dir', this.folder, '--save', ''];
    this.server = spawn('redis-server', [...args, '--appendonly', 'yes'], { stdio: ['ignore', 'pipe', 'inherit'] });
    for await (const text of this.server.stdout!) if (`${text}`.includes('Ready to accept connections')) return;
    assert.fail('redis-server did not start');
  }

  private async kill(): Promise<void> {
    const { server } = this;
    this.server = null;
    if (server !== null && server.exitCode === null) await endOf(server, 'SIGKILL');
  }
}
