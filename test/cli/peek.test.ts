/** inspect, capture, peek and poke on the sockets of vfio-user servers. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { vfio_region_info } from '../../src/abi/vfio.ts';
import { parseMachine } from '../../src/machine/load.ts';
import { version, withScript } from '../vfio-user/scripted-server.ts';
import { barter, endOf, startBarter } from './barter.ts';

const folder = mkdtempSync(join(tmpdir(), 'barter-peek-'));
const lender = join(folder, 'lender.sock');
let server: Awaited<ReturnType<typeof startBarter>>;

before(async () => {
  server = await startBarter('serve', 'examples/two-peers.yaml', '--socket-dir', folder);
});
after(async () => {
  await endOf(server.child, 'SIGTERM');
  rmSync(folder, { recursive: true, force: true });
});

function good(...args: string[]): string {
  const { status, stdout, stderr } = barter(...args);
  assert.deepEqual([status, stderr], [0, '']);
  return stdout;
}

test('inspect shows what a server says of its device, in 80 columns and as JSON', () => {
  const text = good('inspect', lender);
  assert.deepEqual(
    text.split('\n').filter((line) => line.length > 80),
    [],
  );
  assert.match(text, /^bar0 {4}mem64 prefetchable +\S+ +read write mmap +all/m);
  assert.match(text, /^bar2 +mem32 +4K/m);
  assert.match(text, /^MSIX +\d+ +eventfd/m);
  assert.match(text, /PM@0x40 EXP@0x48 MSIX@0x84/);
  assert.match(text, /^Migration: STOP_COPY P2P PRE_COPY; the state is RUNNING$/m);
  assert.match(text, /^Features: {2}LOW_POWER DMA_LOGGING DMA_BUF$/m);
  const view = JSON.parse(good('inspect', lender, '--json'));
  assert.deepEqual(
    view.regions.map(({ name }: { name: string }) => name),
    ['bar0', 'bar2', 'config'],
  );
  assert.equal(view.config.length, 2 * 4096);
  assert.deepEqual(view.migration, { flags: ['STOP_COPY', 'P2P', 'PRE_COPY'], state: 'RUNNING' });
});

test('capture of a socket is a machine file that serves the same device again', async () => {
  const text = good('capture', lender);
  const { machine, devices } = parseMachine(text, 'captured.yaml');
  assert.deepEqual([machine, devices.map(({ name }) => name)], ['lender', ['lender']]);
  const path = join(folder, 'again.yaml');
  writeFileSync(path, text);
  const again = mkdtempSync(join(folder, 'again-'));
  const { child } = await startBarter('serve', path, '--socket-dir', again);
  const view = (socket: string) => {
    const { vendor, device, classCode, regions, capabilities } = JSON.parse(good('inspect', socket, '--json'));
    const sizes = regions.map(({ name, sizeBytes, bar }: Record<string, unknown>) => [name, sizeBytes, bar]);
    return { vendor, device, classCode, sizes, capabilities };
  };
  try {
    assert.deepEqual(view(join(again, 'lender.sock')), view(lender));
  } finally {
    await endOf(child, 'SIGTERM');
  }
});

test('peek and poke reach registers and memory, by name and by index', () => {
  const ids = JSON.parse(good('peek', lender, 'config', '0', '--json'));
  assert.deepEqual(Object.keys(ids), ['region', 'offset', 'bytes', 'value']);
  assert.equal(good('peek', lender, '7', '0').trim(), ids.value);
  assert.equal(
    good('poke', lender, 'bar0', '0x10', '0x1122334455667788', '--size', '8', '--enable').trim(),
    '0x1122334455667788 at 0x10 of bar0',
  );
  assert.equal(good('peek', lender, 'bar0', '0x10', '8', '--enable').trim(), '0x1122334455667788');
  assert.equal(good('peek', lender, 'BAR0', '0x17', '1', '--enable').trim(), '0x11');
  const dump = good('peek', lender, '0', '0x8', '24', '--enable');
  assert.match(dump, /^00000008 {2}00 00 00 00 00 00 00 00 88 77 66 55 44 33 22 11 {2}\.{8}\.wfUD3"\.\n00000018 /);
});

test('a server that refuses because memory is off, and one that hangs up', async () => {
  const agreed = version({ max_msg_fds: 1 });
  const region = { payload: vfio_region_info.encode({ argsz: 32, flags: 3, size: 4096 }).toString('hex') };
  await withScript([agreed, region, { payload: '', error: 5 }], (path) => {
    const { status, stderr } = barter('peek', path, 'bar0', '0');
    assert.equal(status, 1);
    assert.match(stderr, /EIO: .*refuses the access at 0x0 of bar0; --enable switches memory on\n$/);
  });
  await withScript([agreed, { payload: '', cutAt: 0 }], (path) => {
    const { status, stderr } = barter('inspect', path);
    assert.equal(status, 1);
    assert.match(stderr, /^barter: ECONNRESET: .*the server closed the connection; its own log says why\n$/);
  });
});

test('each refusal is one line that names what, where and the next step', () => {
  for (const [args, status, message] of [
    [['peek', join(folder, 'none.sock'), 'config', '0'], 2, /none\.sock: there is no such socket; start the server/],
    [['peek', 'README.md', 'config', '0'], 2, /README\.md: this is not a socket/],
    [['peek', lender, 'bar7', '0'], 2, /there is no region bar7; there are: bar0, .*vga, and indexes/],
    [['peek', lender, 'rom', '0'], 2, /the device has no rom; see barter inspect/],
    [['peek', lender, 'bar0', 'x'], 2, /offset x: it takes a number from 0/],
    [['peek', lender, 'bar0', '0', '0'], 2, /length 0: it takes a number from 1/],
    [['poke', lender, 'bar0', '0', '256', '--size', '1'], 2, /value 256: .* 0xff; --size says how many bytes/],
    [['poke', lender, 'bar0', '0', '1', '--size', '3'], 2, /--size 3: it takes 1, 2, 4 or 8/],
    [['peek', lender, 'bar2', '0x1000'], 1, /EINVAL: .*at 0x1000 of bar2; bar2 has 4096 bytes/],
    [['peek', lender, 'config', '0x1000'], 1, /E[A-Z]+: .*at 0x1000 of config; config has 4096 bytes/],
    [['capture', join(folder, 'none.sock')], 2, /there is no such socket/],
  ] as const) {
    const result = barter(...args);
    assert.deepEqual([result.status, result.stdout], [status, ''], result.stderr);
    assert.match(result.stderr, message);
    assert.equal(result.stderr.trimEnd().split('\n').length, 1, result.stderr);
  }
});
