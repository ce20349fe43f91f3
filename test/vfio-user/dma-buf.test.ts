import assert from 'node:assert/strict';
import { fstatSync } from 'node:fs';
import { test } from 'node:test';
import {
  VFIO_DEVICE_FEATURE_GET,
  VFIO_DEVICE_FEATURE_PROBE,
  VFIO_DEVICE_FEATURE_SET,
} from '../../src/abi/vfio-feature.ts';
import { VFIO_USER_DEVICE_FEATURE } from '../../src/abi/vfio-user.ts';
import { Mapping } from '../../src/linux/mapping.ts';
import { VfioUserClient } from '../../src/vfio-user/client/client.ts';
import { type ExportRequest, enableMemory, exportArgument, exportBuffer, outcome } from './lent.ts';
import { Peers, READ_WRITE } from './peers.ts';
import { RawClient } from './raw-client.ts';
import { withServer } from './served.ts';

const server = await withServer();

async function withPeers(body: (peers: Peers) => void | Promise<void>): Promise<void> {
  await server.assertNothingLeft();
  const peers = new Peers(server);
  try {
    await body(peers);
  } finally {
    peers.close();
  }
  await server.assertNothingLeft();
}

test('a lent buffer is reached by peer DMA until memory goes off, and again when it is mapped anew', () =>
  withPeers((peers) => {
    const fd = exportBuffer(peers.lender, { ranges: [[4096, 65536]] });
    peers.borrower.dmaMap(0x800000, 65536, READ_WRITE, fd.fd);
    assert.equal(peers.write(0x800000 + 77, 0xa5), 'ok');
    assert.equal(peers.lent(4096 + 77), 0xa5);
    enableMemory(peers.lender, false);
    assert.equal(peers.write(0x800000, 1), 'write data error', 'revoked');
    enableMemory(peers.lender, true);
    assert.equal(peers.write(0x800000, 1), 'write data error', 'it stays out until it is mapped again');
    assert.equal(peers.borrower.dmaUnmap(0x800000, 65536), 65536);
    peers.borrower.dmaMap(0x800000, 65536, READ_WRITE, fd.fd);
    assert.equal(peers.write(0x800000, 2), 'ok');
    assert.equal(peers.lent(4096), 2);
    fd.close();
    assert.equal(peers.write(0x800000, 3), 'ok', 'the mapping holds the buffer');
  }));

test('closing the last copy releases the buffer; it is neither mapped by the CPU nor mistaken for memory', () =>
  withPeers(async (peers) => {
    const fd = exportBuffer(peers.lender);
    const request = { fd: fd.fd, offset: 0, sizeBytes: 4096, writable: true, what: 'dma-buf' };
    assert.throws(() => Mapping.map(request), /ENODEV/);
    const copy = fd.duplicate();
    fd.close();
    peers.borrower.dmaMap(0x800000, 65536, READ_WRITE, copy.fd);
    assert.equal(peers.write(0x800000, 1), 'ok', 'a copy is as good');
    peers.borrower.dmaUnmap(0x800000, 65536);
    copy.close();
  }));

test('a close of the device revokes; the descriptor survives it, and stands for a buffer that is gone for good', () =>
  withPeers(async (peers) => {
    const fd = exportBuffer(peers.lender);
    peers.borrower.dmaMap(0x800000, 65536, READ_WRITE, fd.fd);
    assert.equal(peers.write(0x800000, 1), 'ok');
    peers.lender.close();
    // The server notices a moment later. After that no access succeeds.
    const deadline = performance.now() + 5000;
    while (peers.write(0x800000, 1) === 'ok') assert.ok(performance.now() < deadline, 'not revoked in 5 s');
    assert.ok(fstatSync(fd.fd).isSocket());
    peers.borrower.dmaUnmap(0x800000, 65536);
    assert.equal(
      outcome(() => peers.borrower.dmaMap(0x800000, 65536, READ_WRITE, fd.fd)),
      'ENODEV',
    );
    // A new client does not bring the old client's buffers back.
    const next = new VfioUserClient(server.path('lender'));
    enableMemory(next, true);
    assert.equal(
      outcome(() => peers.borrower.dmaMap(0x800000, 65536, READ_WRITE, fd.fd)),
      'ENODEV',
    );
    next.close();
    fd.close();
  }));

test('a borrower that leaves in the middle gives everything back', () =>
  withPeers(async (peers) => {
    const fd = exportBuffer(peers.lender);
    peers.borrower.dmaMap(0x800000, 65536, READ_WRITE, fd.fd);
    peers.borrower.close();
    enableMemory(peers.lender, false);
    enableMemory(peers.lender, true);
    fd.close();
    peers.lender.writeRegion(0, 0, Buffer.from([0x77]));
    assert.equal(peers.lent(0), 0x77, 'the lender goes on');
  }));

test('FLR, reset and hot reset take the buffer back and give it again; low power until it is left', () =>
  withPeers((peers) => {
    const fd = exportBuffer(peers.lender);
    const mapAgain = () => {
      outcome(() => peers.borrower.dmaUnmap(0x800000, 65536));
      return outcome(() => peers.borrower.dmaMap(0x800000, 65536, READ_WRITE, fd.fd));
    };
    for (const [name, trigger] of [
      ['reset', () => peers.lender.reset()],
      ['low power', () => lowPower(peers.lender)],
    ] as const) {
      assert.equal(mapAgain(), 'ok');
      assert.equal(peers.write(0x800000, 1), 'ok', name);
      trigger();
      assert.equal(peers.write(0x800000, 1), 'write data error', name);
    }
    assert.equal(mapAgain(), 'ok');
    fd.close();
  }));

function lowPower(client: VfioUserClient): void {
  for (const feature of [3, 5]) {
    const bytes = Buffer.alloc(16);
    bytes.writeUInt32LE(16, 0);
    bytes.writeUInt32LE(feature | VFIO_DEVICE_FEATURE_SET, 4);
    client.feature(bytes);
  }
}

test('what feature 11 refuses leaves no descriptor behind', async () => {
  const client = RawClient.ready(server.path('lender'));
  const ask = (request: ExportRequest) =>
    client.outcome({ command: VFIO_USER_DEVICE_FEATURE }, exportArgument(request));
  assert.equal(ask({ envelope: VFIO_DEVICE_FEATURE_PROBE | VFIO_DEVICE_FEATURE_GET }), 'ok');
  assert.notEqual(ask({ envelope: VFIO_DEVICE_FEATURE_SET }), 'ok');
  for (const [name, request] of [
    ['an absent region', { region: 1 }],
    ['config space', { region: 7 }],
    ['flags', { flags: 1 }],
    ['no ranges', { ranges: [] }],
    ['a range that is empty', { ranges: [[0, 0]] }],
    ['a length that is not of whole pages', { ranges: [[0, 100]] }],
    ['a range behind the end', { ranges: [[1 << 20, 4096]] }],
    ['a range that wraps', { ranges: [[4096, (1n << 64n) - 4096n]] }],
    ['unknown open flags', { openFlags: 0xffffffff }],
    ['more ranges than come', { said: 3 }],
    ['a number of ranges of 32 bits', { said: 0xffffffff }],
  ] as [string, ExportRequest][]) {
    assert.notEqual(ask(request), 'ok', name);
  }
  const envelope = Buffer.alloc(8);
  assert.equal(client.outcome({ command: VFIO_USER_DEVICE_FEATURE }, envelope), 'EINVAL', 'argsz 0');
  assert.equal(client.outcome({ command: VFIO_USER_DEVICE_FEATURE }, envelope.subarray(4)), 'EINVAL');
  envelope.writeUInt32LE(0xffffffff, 0);
  assert.equal(client.outcome({ command: VFIO_USER_DEVICE_FEATURE }, envelope), 'EINVAL', 'argsz of 4 GiB');
  envelope.writeUInt32LE(8, 0);
  envelope.writeUInt32LE(999 | VFIO_DEVICE_FEATURE_GET, 4);
  assert.equal(client.outcome({ command: VFIO_USER_DEVICE_FEATURE }, envelope), 'ENOTTY', 'an unknown feature');
  client.close();
  await server.assertNothingLeft();
});
