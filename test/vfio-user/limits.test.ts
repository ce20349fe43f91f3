/** A test for each limit of a client (docs/limits.md). */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { O_CLOEXEC, O_RDWR } from '../../src/abi/fcntl.ts';
import { SOCK_SEQPACKET } from '../../src/abi/socket.ts';
import { vfio_device_info } from '../../src/abi/vfio.ts';
import {
  VFIO_USER_DEVICE_GET_INFO,
  VFIO_USER_DMA_MAP,
  VFIO_USER_REGION_READ,
  VFIO_USER_REGION_WRITE,
  VFIO_USER_VERSION,
  vfio_user_dma_map,
  vfio_user_region_access,
} from '../../src/abi/vfio-user.ts';
import { IoatDriver } from '../../src/drivers/ioat.ts';
import { closingThread } from '../../src/linux/closing-thread.ts';
import { createEventfd } from '../../src/linux/eventfd.ts';
import type { OwnedFd } from '../../src/linux/fd.ts';
import { createMemfd } from '../../src/linux/memfd.ts';
import { socketPair } from '../../src/linux/socket.ts';
import { arrayMemory } from '../../src/pci/memory.ts';
import { Completion } from '../../src/task/completion.ts';
import type { Task } from '../../src/task/op.ts';
import { runner } from '../../src/task/runner.ts';
import { VfioUserClient } from '../../src/vfio-user/client/client.ts';
import type { BorrowedBuffer } from '../../src/vfio-user/dma-buf/borrowed-buffer.ts';
import { DmaRegions } from '../../src/vfio-user/server/dma-regions.ts';
import { LIMITS } from '../../src/vfio-user/wire/frame.ts';
import { leavesNoFds } from '../linux/open-fds.ts';
import { InProcessServer } from './in-process.ts';
import { Lingering } from './odd-fds.ts';
import { message, RawClient } from './raw-client.ts';
import { mapsOf, withServer } from './served.ts';

const server = await withServer();
const MSG_DONTWAIT = 0x40;
const NO_REMOTE_MEMORY = {
  read: function* () {
    return false;
  },
  write: function* () {
    return false;
  },
  chunkBytes: 2 ** 20,
  abort() {},
};

/** Another client gets right answers at once. */
function assertBystanderServed(path = server.path('bystander')): void {
  const client = new VfioUserClient(path, { timeoutMs: 2000 });
  try {
    const bytes = Buffer.from([1, 2, 3, 4]);
    client.writeRegion(0, 128, bytes);
    const back = Buffer.alloc(4);
    client.readRegion(0, 128, back);
    assert.deepEqual(back, bytes);
  } finally {
    client.close();
  }
}

/** A client after its handshake, as soon as the previous one has completely gone. */
async function whenFree(device: string, withinMs = 2000): Promise<RawClient> {
  for (const deadline = performance.now() + withinMs; ; await sleep(1)) {
    const client = new RawClient(server.path(device));
    const outcome = client.outcome({ command: VFIO_USER_VERSION }, Buffer.from('\0\0\0\0{}\0'));
    if (outcome === 'ok') return client;
    client.close();
    assert.equal(outcome, 'EBUSY');
    assert.ok(performance.now() < deadline, `${device} is not free within ${withinMs} ms`);
  }
}

function access(region: number, offset: number, count: number, data: Uint8Array = new Uint8Array(0)): Buffer {
  return Buffer.concat([vfio_user_region_access.encode({ offset, region, count }), data]);
}

function dmaMap(addr: number, size = 4096, offset = 0): Buffer {
  return vfio_user_dma_map.encode({ argsz: 32, flags: 3, offset, addr, size });
}

test('maxMessageBytes: the largest message is taken, one byte more ends the connection', async () => {
  const client = RawClient.ready(server.path('lender'));
  const most = LIMITS.maxDataXferBytes;
  const write = message({ command: VFIO_USER_REGION_WRITE }, access(0, 0, most, Buffer.alloc(most)));
  assert.ok(write.length <= LIMITS.maxMessageBytes);
  client.send(write);
  assert.equal(client.receive()?.error, 0);
  const size = LIMITS.maxMessageBytes + 1;
  client.send(message({ command: VFIO_USER_REGION_WRITE, size }, access(0, 0, most)));
  client.assertDropped();
  client.close();
  await server.assertNothingLeft();
});

test('maxDataXferBytes: of both sides the smaller', async () => {
  const client = new RawClient(server.path('lender'));
  const version = Buffer.from('\0\0\0\0{"capabilities":{"max_data_xfer_size":100,"max_dma_maps":3}}\0');
  assert.equal(client.outcome({ command: VFIO_USER_VERSION }, version), 'ok');
  assert.equal(client.outcome({ command: VFIO_USER_REGION_READ }, access(0, 0, 100)), 'ok');
  assert.equal(client.outcome({ command: VFIO_USER_REGION_READ }, access(0, 0, 101)), 'EINVAL');
  const outcomes = [1, 2, 3, 4].map((i) => client.outcome({ command: VFIO_USER_DMA_MAP }, dmaMap(i * 4096)));
  assert.deepEqual(outcomes, ['ok', 'ok', 'ok', 'ENOSPC'], 'maxDmaMaps, too');
  client.close();
  await server.assertNothingLeft();
});

test('maxMsgFds: as many with one message, in one piece or several, and one more ends the connection', async () => {
  const event = createEventfd();
  const fds = (count: number) => new Array(count).fill(event.fd);
  const request = message({ command: VFIO_USER_DEVICE_GET_INFO }, Buffer.from([16, 0, 0, 0, ...new Array(12).fill(0)]));
  const client = RawClient.ready(server.path('lender'));
  client.send(request, fds(LIMITS.maxMsgFds));
  assert.equal(client.receive()?.error, 0, 'descriptors that a command has no use for are closed');
  client.send(request, fds(LIMITS.maxMsgFds + 1));
  client.assertDropped();
  client.close();
  const slow = RawClient.ready(server.path('bystander'));
  for (let i = 0; i < LIMITS.maxMsgFds + 1; i++) slow.send(request.subarray(i, i + 1), fds(1));
  slow.assertDropped();
  slow.close();
  event.close();
  await server.assertNothingLeft();
});

const NO_BUFFERS = { find: () => null, borrow: () => assert.fail('nothing is lent') };

/** A client's address space without the client. */
function newRegions(): DmaRegions {
  const limits = { maxDmaMaps: LIMITS.maxDmaMaps };
  const regions = new DmaRegions('test', NO_REMOTE_MEMORY, NO_BUFFERS, limits);
  runner.run(regions.start());
  return regions;
}

/** Maps pages of the files from `fd` until a map fails with ENOSPC; returns how many were mapped. */
function mapUntilFull(regions: DmaRegions, fd: () => OwnedFd | null = () => null): number {
  return runner.run(mapAll(regions, fd));
}

function* mapAll(regions: DmaRegions, fd: () => OwnedFd | null): Task<number> {
  for (let i = 0; ; i++) {
    try {
      yield* regions.map({ flags: 3, offset: 0, iova: i * 4096, sizeBytes: 4096 }, fd());
    } catch (error) {
      assert.equal((error as { code?: string }).code, 'ENOSPC');
      return i;
    }
  }
}

test('maxDmaMaps and maxDmaMapsOfAll: so many regions of a client, and of all; an unmap makes room', () => {
  const clients = [newRegions(), newRegions(), newRegions()];
  const [first, second, third] = clients;
  assert.equal(mapUntilFull(first), LIMITS.maxDmaMaps);
  assert.equal(mapUntilFull(second), LIMITS.maxDmaMapsOfAll - LIMITS.maxDmaMaps);
  assert.equal(mapUntilFull(third), 0);
  assert.equal(runner.run(first.unmap(0, 4096n, 3n * 4096n)), 3 * 4096);
  assert.equal(mapUntilFull(third), 3);
  for (const client of clients) runner.run(client.destroy());
  const next = newRegions();
  runner.run(next.map({ flags: 3, offset: 0, iova: 0, sizeBytes: 4096 }, null));
  runner.run(next.destroy());
});

test('maxFileMappings: so many files, and not one more; regions of files that are mapped go on', async () => {
  const client = await whenFree('borrower');
  let last: OwnedFd | null = null;
  const map = (i: number, fd: OwnedFd) =>
    client.outcome({ command: VFIO_USER_DMA_MAP }, dmaMap(i * 8192, 4096), [fd.fd]);
  for (let i = 0; i < LIMITS.maxFileMappings; i++) {
    last?.close();
    last = createMemfd('test', 8192);
    assert.equal(map(i, last), 'ok');
  }
  assert.equal(mapsOf('memfd:test').length, LIMITS.maxFileMappings);
  const more = createMemfd('test', 8192);
  assert.equal(map(2 ** 20, more), 'ENOSPC');
  assert.equal(map(2 ** 20, last!), 'ok');
  for (const fd of [more, last!]) fd.close();
  client.close();
  assertBystanderServed();
  await server.assertNothingLeft();
});

test('maxFileMappingsOfAll: several clients together leave the process its mappings', () =>
  leavesNoFds(() => {
    const clients = Array.from({ length: 4 }, newRegions);
    const counts = clients.map((client) => mapUntilFull(client, () => createMemfd('test', 4096)));
    assert.equal(Math.max(...counts), LIMITS.maxFileMappings);
    assert.equal(
      counts.reduce((sum, count) => sum + count, 0),
      LIMITS.maxFileMappingsOfAll,
    );
    for (const client of clients) runner.run(client.destroy());
    assert.deepEqual(mapsOf('memfd:test'), []);
  }));

test('maxBorrowed: so many regions of buffers that others lend, and not one more', () =>
  leavesNoFds(() => {
    let closed = 0;
    const lent = {
      map: function* () {
        return [{ memory: arrayMemory('lent', 4096), offset: 0, sizeBytes: 4096 }];
      },
      close: () => {
        closed += 1;
      },
    } as unknown as BorrowedBuffer;
    const buffers = { find: () => null, borrow: () => lent };
    const limits = { maxDmaMaps: LIMITS.maxDmaMaps };
    const regions = new DmaRegions('test', NO_REMOTE_MEMORY, buffers, limits);
    runner.run(regions.start());
    const [socket, other] = socketPair('test', SOCK_SEQPACKET);
    const map = (i: number) => {
      const request = { flags: 3, offset: 0, iova: i * 4096, sizeBytes: 4096 };
      runner.run(regions.map(request, socket.duplicate()));
    };
    for (let i = 0; i < LIMITS.maxBorrowed; i++) map(i);
    assert.throws(() => map(LIMITS.maxBorrowed), /ENOSPC/);
    assert.equal(runner.run(regions.unmap(0, 0n, 4096n)), 4096);
    map(LIMITS.maxBorrowed);
    runner.run(regions.destroy());
    assert.equal(closed, LIMITS.maxBorrowed + 1);
    for (const fd of [socket, other]) fd.close();
  }));

test('maxExports: so many buffers of one client, and one more is EMFILE; closing them makes room', async () => {
  const client = new VfioUserClient(server.path('lender'));
  const argument = Buffer.alloc(40);
  argument.writeUInt32LE(40, 0);
  argument.writeUInt32LE(11 | (1 << 16), 4);
  argument.writeUInt32LE(O_CLOEXEC | O_RDWR, 12);
  argument.writeUInt32LE(1, 20);
  argument.writeBigUInt64LE(4096n, 32);
  const fds: OwnedFd[] = [];
  for (let i = 0; i < LIMITS.maxExports; i++) fds.push(...client.feature(argument).fds);
  assert.throws(() => client.feature(argument), /EMFILE/);
  for (const fd of fds.splice(0)) fd.close();
  const deadline = performance.now() + 5000;
  for (;;) {
    try {
      for (const fd of client.feature(argument).fds) fd.close();
      break;
    } catch (error) {
      assert.ok(performance.now() < deadline, String(error));
    }
  }
  client.close();
  await server.assertNothingLeft();
});

/** A server on this thread whose lender cannot answer, because a task of the test holds its memory. */
function withBlockedLender(body: (served: InProcessServer, client: RawClient) => void): void {
  leavesNoFds(() => {
    const served = new InProcessServer();
    const client = served.ready('lender');
    const { memoryLock } = served.devices.get('lender')!;
    const isOver = new Completion('the lock is held long enough');
    const hold = function* (): Task {
      yield* memoryLock.write();
      yield* isOver.wait();
      yield* memoryLock.releaseWrite();
    };
    runner.start('somebody who holds the lock', hold());
    client.send(message({ command: VFIO_USER_REGION_READ }, access(0, 0, 4)));
    served.pump();
    assert.equal(client.tryReceive(), undefined, 'the lender waits');
    body(served, client);
    const bystander = served.ready('bystander');
    bystander.send(message({ command: VFIO_USER_REGION_READ }, access(0, 0, 4)));
    served.pump();
    assert.equal(bystander.tryReceive()?.error, 0, 'a bystander is served');
    bystander.close();
    runner.run(isOver.complete());
    served.pump();
    client.close();
    served.pump();
    served.close();
  });
}

/** Sends until the server accepts no more; returns how many bytes it accepted. */
function flood(served: InProcessServer, client: RawClient, bytes: Buffer, fds: number[] = []): number {
  let taken = 0;
  for (let i = 0; i < 100_000; i++) {
    const sent = client.send(bytes, fds, MSG_DONTWAIT);
    if (sent < 0) {
      served.pump();
      if (client.send(bytes, fds, MSG_DONTWAIT) < 0) return taken;
    }
    taken += bytes.length;
  }
  throw new Error('the server takes everything');
}

const SOCKET_BYTES = 1 << 20;

test('maxPendingRequests and maxPendingBytes: what waits is bounded, and is answered in order when it may go on', () => {
  withBlockedLender((served, client) => {
    const large = message({ command: VFIO_USER_REGION_WRITE }, access(0, 0, 65536, Buffer.alloc(65536)));
    const taken = flood(served, client, large);
    assert.ok(taken < LIMITS.maxPendingBytes + SOCKET_BYTES + 4 * large.length, `${taken} bytes were taken`);
  });
  withBlockedLender((served, client) => {
    const small = message({ command: VFIO_USER_REGION_READ }, access(7, 0, 4));
    const taken = flood(served, client, small);
    assert.ok(taken < LIMITS.maxPendingRequests * small.length + SOCKET_BYTES, `${taken} bytes were taken`);
  });
});

test('maxPendingFds: descriptors that wait are bounded', () => {
  withBlockedLender((served, client) => {
    const event = createEventfd();
    const before = served.server.census().openFds;
    const fds = new Array(LIMITS.maxMsgFds).fill(event.fd);
    const info = message({ command: VFIO_USER_DEVICE_GET_INFO }, Buffer.alloc(16));
    for (let i = 0; i < 100; i++) {
      if (client.send(info, fds, MSG_DONTWAIT) < 0) break;
      served.pump();
    }
    const held = served.server.census().openFds - before;
    assert.ok(held > 0 && held <= LIMITS.maxPendingFds + LIMITS.maxMsgFds, `${held} descriptors are held`);
    event.close();
  });
});

test('replies that nobody reads: the server stops reading, and its memory does not grow', () =>
  leavesNoFds(() => {
    const served = new InProcessServer();
    const client = served.ready('lender');
    const before = process.memoryUsage.rss();
    const read = message({ command: VFIO_USER_REGION_READ }, access(0, 0, 1 << 20));
    const taken = flood(served, client, read);
    assert.ok(taken < 2 * SOCKET_BYTES, `${taken} bytes were taken`);
    const grown = process.memoryUsage.rss() - before;
    assert.ok(grown < 64 << 20, `${grown >> 20} MiB more`);
    let replies = 0;
    for (let idle = 0; idle < 50; ) {
      served.pump();
      const reply = client.tryReceive();
      if (reply === undefined) idle += 1;
      else {
        assert.equal(reply?.payload.length, 16 + (1 << 20));
        replies += 1;
        idle = 0;
      }
    }
    assert.equal(replies, taken / read.length, 'all of them are answered in the end');
    client.close();
    served.pump();
    served.close();
  }));

test('handshakeTimeoutMs and dmaReplyTimeoutMs: silence ends the connection, and the device is free again', async () => {
  const silent = new RawClient(server.path('lender'));
  const slow = new RawClient(server.path('lender'));
  slow.send(message({ command: VFIO_USER_VERSION }).subarray(0, 9));
  const borrower = new VfioUserClient(server.path('borrower'));
  borrower.dmaMap(0x100000, 65536, 3);
  const driver = new IoatDriver(borrower);
  const started = performance.now();
  // The engine reads the client's memory by message, and this client never replies.
  driver.submit(0x100000, 0x102000, 2048);
  silent.assertDropped();
  slow.assertDropped();
  const waited = performance.now() - started;
  assert.ok(waited > LIMITS.handshakeTimeoutMs * 0.9 && waited < LIMITS.handshakeTimeoutMs * 1.5, `${waited} ms`);
  const next = await whenFree('borrower');
  assert.ok(performance.now() - started > LIMITS.dmaReplyTimeoutMs * 0.9);
  for (const client of [silent, slow, borrower, next, driver]) client.close();
  await server.assertNothingLeft();
});

test('maxWaitingClients: half-open connections beyond it go, oldest first, and delay no client', async () => {
  const start = performance.now();
  const flood = Array.from({ length: 500 }, () => new RawClient(server.path('lender')));
  const good = new RawClient(server.path('lender'));
  assert.equal(good.outcome({ command: VFIO_USER_VERSION }, Buffer.from('\0\0\0\0{}\0')), 'ok');
  assert.ok(performance.now() - start < LIMITS.handshakeTimeoutMs, 'nobody waited for the time of a handshake');
  flood[0].assertDropped();
  assertBystanderServed();
  const late = flood.at(-1)!;
  assert.equal(late.outcome({ command: VFIO_USER_VERSION }, Buffer.from('\0\0\0\0{}\0')), 'EBUSY', 'it is still there');
  for (const client of [good, ...flood]) client.close();
  await server.assertNothingLeft();
});

test('maxClosing: whoever brings more that cannot be closed is cut off, and new clients wait until there is room', async () => {
  const lingering = new Lingering();
  const bystander = new VfioUserClient(server.path('bystander'), { timeoutMs: 2000 });
  const client = await whenFree('lender');
  const request = message({ command: VFIO_USER_DEVICE_GET_INFO }, vfio_device_info.encode({ argsz: 16 }));
  const bring = (closeOurs: (fd: OwnedFd) => void) => {
    const fds = Array.from({ length: LIMITS.maxMsgFds }, () => lingering.make());
    // The descriptors arrive before the message is complete, so that the server holds the last references.
    client.send(
      request.subarray(0, 8),
      fds.map(({ fd }) => fd),
    );
    fds.forEach(closeOurs);
    client.send(request.subarray(8));
  };
  for (let i = 0; i < LIMITS.maxClosing / LIMITS.maxMsgFds; i++) {
    bring((fd) => fd.close());
    assert.equal(client.receive()?.error, 0, `message ${i}`);
  }
  // The server closes these at once, maybe before this thread does.
  bring((fd) => closingThread(fd.release()));
  client.assertDropped();
  client.close();
  bystander.info();
  const late = new RawClient(server.path('lender'));
  const version = { command: VFIO_USER_VERSION };
  late.sendMessage(version, Buffer.from('\0\0\0\0{}\0'));
  await sleep(300);
  assert.equal(late.tryReceive(), undefined, 'not accepted yet');
  bystander.info();
  lingering.close();
  assert.equal(late.receive()?.error, 0);
  late.close();
  bystander.close();
  await server.assertNothingLeft();
});
