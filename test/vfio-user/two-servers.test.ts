/** Peer-to-peer DMA between devices of two servers, which share only a descriptor. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { SOCK_SEQPACKET } from '../../src/abi/socket.ts';
import { socketPair } from '../../src/linux/socket.ts';
import { VfioUserClient } from '../../src/vfio-user/client/client.ts';
import { LIMITS } from '../../src/vfio-user/wire/frame.ts';
import { enableMemory, exportBuffer, outcome } from './lent.ts';
import { OWN, Peers, READ_WRITE } from './peers.ts';
import { MACHINE, TestServer, withServer } from './served.ts';

const LENT = 0x800000;
const lending = await withServer();
const borrowing = await withServer();

async function withPeers(body: (peers: Peers) => void | Promise<void>): Promise<void> {
  const peers = new Peers(lending, borrowing);
  try {
    await body(peers);
  } finally {
    peers.close();
  }
  // Both are threads of this process. The second was started last, so it knows the files that are open when all is
  // idle.
  await borrowing.assertNothingLeft();
  assert.deepEqual([...lending.log, ...borrowing.log], []);
}

test('DMA of one server reaches a BAR of the other, until a revoke, and again when it is mapped anew', () =>
  withPeers((peers) => {
    const buffer = exportBuffer(peers.lender, {
      ranges: [
        [65536, 8192],
        [0, 4096],
      ],
    });
    peers.borrower.dmaMap(LENT, 12288, READ_WRITE, buffer.fd);
    assert.equal(peers.write(LENT + 7, 0xa5), 'ok');
    assert.equal(peers.lent(65536 + 7), 0xa5);
    assert.equal(peers.write(LENT + 8192, 0x5a), 'ok', 'the second range is behind the first');
    assert.equal(peers.lent(0), 0x5a);
    enableMemory(peers.lender, false);
    assert.equal(peers.write(LENT, 1), 'write data error', 'revoked');
    enableMemory(peers.lender, true);
    assert.equal(peers.write(LENT, 1), 'write data error', 'it stays out until it is mapped again');
    assert.equal(peers.borrower.dmaUnmap(LENT, 12288), 12288);
    peers.borrower.dmaMap(LENT, 8192, READ_WRITE, buffer.fd, 4096);
    assert.equal(peers.write(LENT + 4096, 9), 'ok');
    assert.equal(peers.lent(0), 9, 'a slice that begins in the first range');
    buffer.close();
    assert.equal(peers.write(LENT, 3), 'ok', 'the mapping holds the buffer');
  }));

test('a mapping for reading is read, and not written', () =>
  withPeers((peers) => {
    const buffer = exportBuffer(peers.lender);
    peers.borrower.dmaMap(LENT, 65536, 1, buffer.fd);
    peers.lender.writeRegion(0, 0, Buffer.from([0x33]));
    assert.equal(peers.driver.copy(LENT, OWN, 1), 'ok');
    assert.equal(peers.memory.view.getUint8(0), 0x33);
    assert.equal(peers.write(LENT, 1), 'write data error');
    buffer.close();
  }));

test('what cannot be mapped is refused, and leaves nothing', () =>
  withPeers((peers) => {
    const buffer = exportBuffer(peers.lender);
    const map = (size: number, offset = 0) =>
      outcome(() => peers.borrower.dmaMap(LENT, size, READ_WRITE, buffer.fd, offset));
    assert.equal(map(65536 + 4096), 'EINVAL', 'more than there is');
    assert.equal(map(65536, 4096), 'EINVAL');
    enableMemory(peers.lender, false);
    assert.equal(map(65536), 'ENODEV', 'revoked');
    enableMemory(peers.lender, true);
    const engine = new VfioUserClient(lending.path('borrower'));
    enableMemory(engine, true);
    const registers = exportBuffer(engine, { ranges: [[0, 4096]] });
    assert.equal(
      outcome(() => peers.borrower.dmaMap(LENT, 4096, READ_WRITE, registers.fd)),
      'EOPNOTSUPP',
    );
    const [a, b] = socketPair('nobody answers', SOCK_SEQPACKET);
    b.close();
    assert.equal(
      outcome(() => peers.borrower.dmaMap(LENT, 4096, READ_WRITE, a.fd)),
      'EPIPE',
    );
    assert.equal(map(65536), 'ok');
    engine.close();
    for (const fd of [buffer, registers, a]) fd.close();
  }));

test('a borrower that leaves in the middle gives the buffer back, and a lender that leaves takes it', () =>
  withPeers(async (peers) => {
    const buffer = exportBuffer(peers.lender);
    peers.borrower.dmaMap(LENT, 65536, READ_WRITE, buffer.fd);
    peers.lender.close();
    for (const end = performance.now() + 5000; peers.write(LENT, 1) === 'ok'; await sleep(1)) {
      assert.ok(performance.now() < end, 'not revoked in 5 s');
    }
    buffer.close();
  }));

test('as many regions as the table of limits says, each a session with the lender', () =>
  withPeers((peers) => {
    const buffers = Array.from({ length: 5 }, () => exportBuffer(peers.lender));
    const map = (i: number) => peers.borrower.dmaMap(LENT + i * 4096, 4096, READ_WRITE, buffers[i >> 6].fd);
    for (let i = 0; i < LIMITS.maxBorrowed; i++) map(i);
    assert.equal(
      outcome(() => map(LIMITS.maxBorrowed)),
      'ENOSPC',
    );
    peers.borrower.dmaUnmap(LENT, 4096);
    map(LIMITS.maxBorrowed);
    for (const fd of buffers) fd.close();
  }));

test('a server that ends takes what it lent with it', async () => {
  const ending = new TestServer();
  await ending.start(MACHINE);
  const peers = new Peers(ending, borrowing);
  const buffer = exportBuffer(peers.lender);
  peers.borrower.dmaMap(LENT, 65536, READ_WRITE, buffer.fd);
  assert.equal(peers.write(LENT, 1), 'ok');
  await ending.stop();
  for (const end = performance.now() + 5000; peers.write(LENT, 1) === 'ok'; await sleep(1)) {
    assert.ok(performance.now() < end, 'still mapped after 5 s');
  }
  assert.equal(
    outcome(() => peers.borrower.dmaMap(2 * LENT, 65536, READ_WRITE, buffer.fd)),
    'EPIPE',
  );
  buffer.close();
  peers.close();
  await borrowing.assertNothingLeft();
});
