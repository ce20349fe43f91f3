/** A server's log and trace must neither end nor block it, even if their reader stops or goes away. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { VfioUserClient } from '../../src/vfio-user/client/client.ts';
import { message, RawClient } from '../vfio-user/raw-client.ts';
import { endOf, ROOT } from './barter.ts';

const BIN = fileURLToPath(new URL('../../bin/barter.cjs', import.meta.url));
const MACHINE = 'examples/two-peers.yaml';

type Stdio = 'pipe' | number;

async function serving(
  stdio: { stdout?: Stdio; stderr?: Stdio },
  args: readonly string[],
  body: (child: ChildProcess, lender: string) => Promise<void>,
): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'barter-out-'));
  const command = [BIN, 'serve', MACHINE, '--socket-dir', folder, ...args];
  const { stdout = 'pipe', stderr = 'pipe' } = stdio;
  const child = spawn(process.execPath, command, { cwd: ROOT, stdio: ['ignore', stdout, stderr] });
  const borrower = join(folder, 'borrower.sock');
  try {
    // The socket that is made last. The server listens on it a moment later.
    while (!existsSync(borrower)) await sleep(5);
    await sleep(50);
    await body(child, join(folder, 'lender.sock'));
    assert.deepEqual(readdirSync(folder), [], 'the sockets are gone');
  } finally {
    child.kill('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Opens a connection that the server drops with a log line. */
function misbehave(path: string): void {
  const client = new RawClient(path);
  client.send(message({ command: 1, size: 3 }));
  client.assertDropped();
  client.close();
}

async function assertServed(path: string): Promise<void> {
  const client = new VfioUserClient(path, { timeoutMs: 5000 });
  assert.equal(client.info().numRegions, 9);
  client.closeAndWait();
}

test('a log on a full file system neither ends nor blocks the server', async () => {
  const full = openSync('/dev/full', 'w');
  await serving({ stderr: full }, [], async (child, lender) => {
    for (let i = 0; i < 20; i++) misbehave(lender);
    await assertServed(lender);
    assert.equal(await endOf(child, 'SIGTERM'), 0);
  });
});

test('a log whose reader is gone neither ends nor blocks the server', () =>
  serving({}, [], async (child, lender) => {
    child.stderr!.destroy();
    for (let i = 0; i < 20; i++) misbehave(lender);
    await assertServed(lender);
    assert.equal(await endOf(child, 'SIGTERM'), 0);
  }));

test('a log that nobody reads neither blocks the server nor its end', () =>
  serving({}, ['--log', 'json'], async (child, lender) => {
    // A pipe holds 64 KiB, so some hundred lines fill it.
    child.stderr!.pause();
    for (let i = 0; i < 400; i++) misbehave(lender);
    await assertServed(lender);
    assert.equal(await endOf(child, 'SIGTERM'), 0);
  }));

test('a trace on a full file system neither ends nor blocks the server', async () => {
  const full = openSync('/dev/full', 'w');
  await serving({ stdout: full }, ['--trace'], async (child, lender) => {
    for (let i = 0; i < 20; i++) await assertServed(lender);
    assert.equal(await endOf(child, 'SIGTERM'), 0);
  });
});

/** The resident memory of a process, in MiB. */
function residentMiB(pid: number): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1024;
}

test('a trace whose reader does not read takes bounded memory, and SIGTERM ends the server', () =>
  serving({}, ['--trace'], async (child, lender) => {
    child.stdout!.pause();
    const client = new VfioUserClient(lender);
    const word = Buffer.alloc(4);
    const readOften = () => {
      for (let i = 0; i < 10_000; i++) client.readRegion(7, 0, word);
    };
    readOften();
    const before = residentMiB(child.pid!);
    for (let i = 0; i < 2; i++) readOften();
    const grown = residentMiB(child.pid!) - before;
    assert.ok(grown < 64, `${grown} MiB for 20,000 messages`);
    client.close();
    assert.equal(await endOf(child, 'SIGTERM'), 0);
  }));

test('a looping client is heard of a hundred times, and the log says how often it was not', () =>
  serving({}, ['--log', 'json'], async (child, lender) => {
    let text = '';
    child.stderr!.setEncoding('utf8').on('data', (data: string) => {
      text += data;
    });
    const closed = once(child.stderr!, 'close');
    for (let i = 0; i < 500; i++) misbehave(lender);
    assert.equal(await endOf(child, 'SIGTERM'), 0);
    await closed;
    const entries = text
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    const isSummary = ({ msg }: { msg: string }) => / more lines in 10 s/.test(msg);
    const more = entries.filter(isSummary);
    const lines = entries.filter((entry) => !isSummary(entry));
    assert.deepEqual(new Set(lines.map(({ level, cause }) => `${level} ${cause}`)), new Set(['warn dropped']));
    // One window, or two on a slow machine.
    assert.ok(lines.length <= 300, `${lines.length} lines`);
    assert.equal(lines.length + more.reduce((sum, { msg }) => sum + Number(/(\d+) more/.exec(msg)![1]), 0), 500);
  }));

test('levels: a message below the level asked for is not written', () =>
  serving({}, ['--log-level', 'error'], async (child, lender) => {
    let text = '';
    child.stderr!.on('data', (data) => {
      text += data;
    });
    misbehave(lender);
    const closed = once(child.stderr!, 'close');
    assert.equal(await endOf(child, 'SIGTERM'), 0);
    await closed;
    assert.equal(text, '');
  }));
