import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { ImporterProcess } from '../../src/demo/importer-process.ts';
import { LendingClient } from '../../src/demo/lend.ts';
import { barter, endOf, startBarter } from './barter.ts';

const MACHINE = 'examples/two-peers.yaml';
const folders = [0, 1].map(() => mkdtempSync(join(tmpdir(), 'barter-import-')));
const servers: ChildProcess[] = [];

before(async () => {
  for (const folder of folders) servers.push((await startBarter('serve', MACHINE, '--socket-dir', folder)).child);
});

after(async () => {
  for (const child of servers) assert.equal(await endOf(child, 'SIGTERM'), 0);
  for (const folder of folders) rmSync(folder, { recursive: true });
});

function importSteps(...args: string[]): string[] {
  const { status, stdout, stderr } = barter('import', ...args, '--revokes', '5', '--json');
  assert.equal(status, 0, stderr + stdout);
  const { ok, steps } = JSON.parse(stdout);
  assert.equal(ok, true);
  return steps.map((step: { name: string; ok: boolean }) => `${step.name}: ${step.ok}`);
}

test('a second process borrows a BAR: bytes, revokes, and its death while a revoke waits for it', () => {
  assert.deepEqual(importSteps(join(folders[0], 'lender.sock')), [
    'lend: true',
    'import in a second process: true',
    'move all of it: true',
    'revoke 5 times: true',
    'kill -9 while a revoke waits: true',
  ]);
});

test('two servers do peer-to-peer DMA, and the borrower lets go when the lender revokes', () => {
  const sockets = [join(folders[0], 'lender.sock'), '--borrower', join(folders[1], 'borrower.sock')];
  assert.deepEqual(importSteps(...sockets), [
    'lend: true',
    'import in the second server: true',
    'move all of it by its DMA engine: true',
    'revoke: DMA faults: true',
    'revoke 5 times: true',
  ]);
});

test('an importer that holds on is disconnected after --importer-timeout, and named on stderr', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'barter-import-'));
  const { child } = await startBarter('serve', MACHINE, '--socket-dir', folder, '--importer-timeout', '150');
  let said = '';
  child.stderr!.on('data', (chunk) => {
    said += chunk;
  });
  const lender = new LendingClient(join(folder, 'lender.sock'), 1 << 20);
  const buffer = lender.export();
  const importer = new ImporterProcess(buffer);
  await importer.next('mapped');
  importer.tell('hold');
  await importer.next('holding');
  const tookMs = lender.memory(false);
  assert.ok(tookMs >= 145, `returned after ${tookMs} ms`);
  await importer.end();
  buffer.close();
  lender.close();
  assert.equal(await endOf(child, 'SIGTERM'), 0);
  const who = `process ${importer.pid} of user ${process.getuid!()}`;
  assert.match(said, new RegExp(`${who} keeps 1 mappings and 0 fences of the dma-buf of 1048576 bytes`));
  assert.match(said, new RegExp(`importer dropped: ${who}.*ETIMEDOUT`));
  rmSync(folder, { recursive: true });
});

test('wrong usage, and a file that is not a dma-buf', () => {
  assert.equal(barter('import').status, 2);
  assert.equal(barter('import', 'x.sock', '--fd', '3').status, 2);
  assert.equal(barter('import', 'x.sock', '--revokes', 'many').status, 2);
  assert.equal(barter('serve', MACHINE, '--importer-timeout', 'soon').status, 2);
  assert.match(barter('import', '--fd', '2').stderr, /ENOTSOCK/);
  const nobody = barter('import', join(folders[0], 'nobody.sock'));
  assert.match(nobody.stderr, /nobody\.sock: there is no such socket; start the server that makes it/);
  assert.equal(nobody.status, 2);
  assert.match(barter('import', join(folders[0], 'borrower.sock')).stdout, /FAILED {2}import [\s\S]*EOPNOTSUPP/);
});
