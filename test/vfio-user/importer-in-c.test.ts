/** examples/importer.c, which uses docs/dma-buf-socket.md and none of this code. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { FuzzRandom } from '../fuzz/random.ts';
import { openFds } from '../linux/open-fds.ts';
import { Lender } from './lender.ts';
import { withServer } from './served.ts';

const source = fileURLToPath(new URL('../../examples/importer.c', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'barter-c-'));
const program = join(folder, 'importer');
const compiled = spawnSync(process.env.CC ?? 'cc', ['-O1', '-Wall', '-Werror', '-o', program, source], {
  encoding: 'utf8',
});

const server = await withServer();
after(() => rmSync(folder, { recursive: true }));
const KILLED = 200;
const AT_ONCE = 4;

/** The inodes of the files behind the lender's BAR. They change when the BAR moves. */
function barFiles(): string[] {
  return openFds()
    .filter((line) => line.includes('barter:lender.bar0'))
    .map((line) => String(statSync(`/proc/self/fd/${line.split(' ')[0]}`).ino))
    .sort();
}

test('an importer in C maps, lets go, maps again, and dies without harm', async () => {
  assert.equal(compiled.status, 0, `this test needs a C compiler: ${compiled.error?.message ?? compiled.stderr}`);
  const lender = new Lender(server.path('lender'));
  lender.write(4096, 7);
  const buffer = lender.export({
    ranges: [
      [4096, 4096],
      [0, 8192],
    ],
  });
  const child = spawn(program, [], { stdio: ['ignore', 'pipe', 'inherit', buffer.fd] });
  const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
  const next = async () => (await lines.next()).value;
  buffer.close();
  assert.equal(await next(), '12288 bytes of vfio_pci_core');
  assert.equal(await next(), 'mapped 2 ranges, word 8');
  assert.equal(lender.read(4096), 8);
  lender.memory(false);
  assert.equal(await next(), 'revoked');
  lender.memory(true);
  assert.equal(await next(), 'mapped 2 ranges, word 9');
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  lender.memory(false);
  await ended;
  lender.close();
  await server.assertNothingLeft();
  assert.deepEqual(server.log, []);
});

test(`${KILLED} importers killed at any moment hold up no revoke, and no BAR moves away from the dead`, async () => {
  const random = new FuzzRandom(11);
  const lender = new Lender(server.path('lender'));
  const buffer = lender.export();
  const before = barFiles();
  for (let killed = 0; killed < KILLED; killed += AT_ONCE) {
    const children = Array.from({ length: AT_ONCE }, () => {
      return spawn(program, [], { stdio: ['ignore', 'ignore', 'ignore', buffer.fd] });
    });
    const ends = children.map((child) => once(child, 'exit'));
    await sleep(random.below(8));
    lender.startMemory(false);
    await sleep(random.below(3));
    for (const child of children) child.kill('SIGKILL');
    lender.answer();
    lender.memory(true);
    await Promise.all(ends);
  }
  assert.deepEqual(barFiles(), before);
  buffer.close();
  lender.close();
  await server.assertNothingLeft();
  assert.deepEqual(server.log, []);
});
