import assert from 'node:assert/strict';
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Errno } from '../../src/abi/errno.ts';
import { VFIO_DMA_UNMAP_FLAG_ALL } from '../../src/abi/vfio-type1.ts';
import {
  VFIO_USER_DEVICE_RESET,
  VFIO_USER_DMA_MAP,
  VFIO_USER_DMA_READ,
  VFIO_USER_DMA_UNMAP,
  VFIO_USER_REGION_WRITE,
  vfio_user_dma_map,
  vfio_user_dma_unmap,
  vfio_user_region_access,
} from '../../src/abi/vfio-user.ts';
import { IoatDriver } from '../../src/drivers/ioat.ts';
import { createEventfd } from '../../src/linux/eventfd.ts';
import { Mapping } from '../../src/linux/mapping.ts';
import { createMemfd } from '../../src/linux/memfd.ts';
import type { VfioUserClient } from '../../src/vfio-user/client/client.ts';
import type { ClientDmaMemory } from '../../src/vfio-user/client/dma-answer.ts';
import { InProcessServer } from './in-process.ts';
import { message, RawClient, type RawReply } from './raw-client.ts';
import { connectWhenFree, withServer } from './served.ts';

const server = await withServer();
const PAGE = 4096;
const READ = 1;
const WRITE = 2;
const BOTH = READ | WRITE;

async function withBorrower(body: (client: VfioUserClient) => void): Promise<void> {
  await server.assertNothingLeft();
  const client = await connectWhenFree(server.path('borrower'));
  try {
    body(client);
  } finally {
    client.close();
  }
  await server.assertNothingLeft();
}

function outcome(body: () => unknown): string {
  try {
    body();
    return 'ok';
  } catch (error) {
    if (error instanceof Errno) return error.code;
    throw error;
  }
}

test('DMA_MAP and DMA_UNMAP: which ranges go together, and which do not', () =>
  withBorrower((client) => {
    const memfd = createMemfd('test', 64 * PAGE);
    const map = (iova: number, pages: number, fd: number | null = memfd.fd, offset = 0) =>
      outcome(() => client.dmaMap(iova * PAGE, pages * PAGE, BOTH, fd, offset));
    const unmap = (iova: number, pages: number) => client.dmaUnmap(iova * PAGE, pages * PAGE) / PAGE;
    assert.equal(map(16, 4), 'ok');
    assert.equal(map(20, 4), 'ok', 'beside it');
    assert.equal(map(12, 4, null), 'ok', 'without a descriptor');
    for (const [iova, pages] of [
      [16, 4],
      [15, 2],
      [17, 1],
      [19, 2],
      [0, 64],
      [12, 1],
      [23, 9],
    ]) {
      assert.equal(map(iova, pages), 'EEXIST', `${iova}+${pages}`);
      assert.equal(map(iova, pages, null), 'EEXIST', `${iova}+${pages} without a descriptor`);
    }
    for (const [iova, pages] of [
      [17, 1],
      [15, 2],
      [16, 3],
      [18, 4],
      [0, 17],
    ]) {
      assert.equal(
        outcome(() => unmap(iova, pages)),
        'ENOENT',
        `a cut: ${iova}+${pages}`,
      );
    }
    assert.equal(
      outcome(() => unmap(30, 4)),
      'ENOENT',
      'nothing is there',
    );
    assert.equal(unmap(16, 4), 4);
    assert.equal(map(16, 4), 'ok', 'again');
    assert.equal(unmap(10, 40), 12, 'all three at once, and the gaps');
    assert.equal(map(16, 4), 'ok');
    assert.equal(map(40, 4, null), 'ok');
    assert.equal(client.dmaUnmap(0, 0, VFIO_DMA_UNMAP_FLAG_ALL) / PAGE, 8);
    assert.equal(client.dmaUnmap(0, 0, VFIO_DMA_UNMAP_FLAG_ALL), 0);
    memfd.close();
  }));

test('what DMA_MAP and DMA_UNMAP refuse', async () => {
  const client = RawClient.ready(server.path('borrower'));
  const memfd = createMemfd('test', 4 * PAGE);
  const event = createEventfd();
  const map = (change: Partial<Parameters<typeof vfio_user_dma_map.encode>[0]>, fds: number[] = [memfd.fd]) => {
    const whole = { argsz: 32, flags: BOTH, offset: 0, addr: 16 * PAGE, size: PAGE, ...change };
    return client.outcome({ command: VFIO_USER_DMA_MAP }, vfio_user_dma_map.encode(whole), fds);
  };
  assert.equal(map({ argsz: 31 }), 'EINVAL');
  assert.equal(map({ flags: 0 }), 'EINVAL', 'no access');
  assert.equal(map({ flags: 0x13 }), 'EINVAL', 'unknown flags');
  assert.equal(map({ flags: 4 }), 'EINVAL', 'a descriptor that can be mapped, and no access');
  assert.equal(map({ flags: 7 }, []), 'EINVAL', 'a descriptor that can be mapped, and none came');
  assert.equal(map({ argsz: 32 + (1 << 20) + 1 }), 'EINVAL', 'argsz of more than a message');
  assert.equal(map({ size: 0 }), 'EINVAL');
  assert.equal(map({ size: 100 }), 'EINVAL');
  assert.equal(map({ addr: 100 }), 'EINVAL');
  assert.equal(map({ offset: 100 }), 'EINVAL');
  assert.equal(map({ size: 5 * PAGE }), 'EINVAL', 'more than the file has');
  assert.equal(map({ offset: 4 * PAGE }), 'EINVAL', 'behind the file');
  for (const addr of [(1n << 64n) - 4096n, 1n << 56n, 1n << 52n, (1n << 53n) + 4096n]) {
    assert.equal(map({ addr }, []), 'EOVERFLOW', `an address of more than 52 bits: ${addr}`);
  }
  assert.equal(map({ addr: (1n << 52n) - 4096n }, []), 'ok', 'the last page');
  assert.equal(map({ size: 1n << 63n }, []), 'EOVERFLOW');
  assert.equal(map({ offset: 1n << 63n }), 'EOVERFLOW');
  assert.equal(map({ addr: (1n << 64n) - 4096n, size: 8192 }, []), 'EINVAL', 'wraps');
  assert.equal(map({}, [memfd.fd, memfd.fd]), 'EINVAL', 'two descriptors');
  assert.equal(map({}, [event.fd]), 'EINVAL', 'no memory');
  assert.equal(map({}, [client.socket.fd]), 'EINVAL', 'a socket, not a dma-buf');
  assert.equal(client.outcome({ command: VFIO_USER_DMA_MAP }, Buffer.alloc(31), [memfd.fd]), 'EINVAL');
  const unmap = (change: Partial<Parameters<typeof vfio_user_dma_unmap.encode>[0]>) => {
    const whole = { argsz: 24, flags: 0, addr: 16 * PAGE, size: PAGE, ...change };
    return client.outcome({ command: VFIO_USER_DMA_UNMAP }, vfio_user_dma_unmap.encode(whole));
  };
  assert.equal(unmap({ argsz: 23 }), 'EINVAL');
  assert.equal(unmap({ size: 0 }), 'EINVAL');
  assert.equal(unmap({ flags: 4 }), 'EINVAL');
  assert.equal(unmap({ flags: VFIO_DMA_UNMAP_FLAG_ALL }), 'EINVAL', 'all, and a range');
  assert.equal(unmap({ addr: (1n << 64n) - 4096n, size: 8192 }), 'EINVAL', 'wraps');
  assert.equal(unmap({ addr: (1n << 64n) - 4096n }), 'ENOENT', 'nothing can be there');
  assert.equal(unmap({ addr: 100 }), 'EINVAL', 'not whole pages');
  assert.equal(unmap({ size: 100 }), 'EINVAL', 'not whole pages');
  assert.equal(unmap({ addr: 0, size: (1n << 64n) - 4096n }), 'ok', 'a virtual IOMMU: all, by its range');
  for (const flags of [4 | BOTH, 8 | BOTH, 12 | BOTH]) {
    assert.equal(map({ flags, addr: 0 }), 'ok', `flags ${flags} of newer peers`);
    assert.equal(unmap({ addr: 0 }), 'ok');
  }
  map({ addr: 0 });
  const reply = client.call({ command: VFIO_USER_DMA_UNMAP }, vfio_user_dma_unmap.encode({ argsz: 24, size: PAGE }));
  assert.equal(16 + reply.payload.length, 40, 'rust-vmm needs 40 bytes');
  memfd.close();
  event.close();
  client.close();
  await server.assertNothingLeft();
});

/** The client's memory that is reached by messages. A page is made at its first use. */
class Pages implements ClientDmaMemory {
  readonly bytes = new Map<number, number>();
  reads = 0;
  writes = 0;

  read(address: number, into: Uint8Array): void {
    this.reads += 1;
    for (let i = 0; i < into.length; i++) into[i] = this.bytes.get(address + i) ?? 0;
  }

  write(address: number, from: Uint8Array): void {
    this.writes += 1;
    for (let i = 0; i < from.length; i++) this.bytes.set(address + i, from[i]);
  }
}

function pattern(length: number, seed: number): Buffer {
  return Buffer.from(Array.from({ length }, (_, i) => (i * 31 + seed) & 0xff));
}

function mapped(memfd: { fd: number }, sizeBytes: number): Mapping {
  return Mapping.map({ fd: memfd.fd, offset: 0, sizeBytes, writable: true, what: 'test' });
}

test('the device reaches mapped memory; by its IOVA, and no further', () =>
  withBorrower((client) => {
    const memfd = createMemfd('test', 64 * PAGE);
    const memory = mapped(memfd, 64 * PAGE);
    client.dmaMap(0x100000, 32 * PAGE, BOTH, memfd.fd, 0);
    client.dmaMap(0x200000, 32 * PAGE, BOTH, memfd.fd, 32 * PAGE);
    const driver = new IoatDriver(client);
    memory.write(100, pattern(70_000, 1));
    assert.equal(driver.copy(0x100000 + 100, 0x200000 + 33, 70_000), 'ok');
    const back = Buffer.alloc(70_000);
    memory.read(32 * PAGE + 33, back);
    assert.deepEqual(back, pattern(70_000, 1));
    assert.equal(driver.copy(0x100000 + 32 * PAGE - 8, 0x200000, 16), 'read data error', 'past the end');
    assert.equal(driver.copy(0x100000 - 8, 0x200000, 16), 'read data error', 'before the start');
    assert.equal(driver.copy(0x100000, 0x900000, 16), 'write data error', 'to nowhere');
    client.dmaUnmap(0x200000, 32 * PAGE);
    assert.equal(driver.copy(0x100000, 0x200000, 16), 'write data error', 'unmapped');
    driver.close();
    memory.close();
    memfd.close();
  }));

test('memory that was mapped for reading is not written, and for writing not read', () =>
  withBorrower((client) => {
    const memfd = createMemfd('test', 2 * PAGE);
    const memory = mapped(memfd, 2 * PAGE);
    client.dmaMap(0x100000, PAGE, READ, memfd.fd, 0);
    client.dmaMap(0x200000, PAGE, WRITE, memfd.fd, PAGE);
    const driver = new IoatDriver(client);
    memory.write(0, pattern(64, 9));
    assert.equal(driver.copy(0x100000, 0x200000, 64), 'ok');
    assert.equal(driver.copy(0x100000, 0x100800, 64), 'write data error');
    assert.equal(driver.copy(0x200000, 0x200800, 64), 'read data error');
    const back = Buffer.alloc(64);
    memory.read(PAGE, back);
    assert.deepEqual(back, pattern(64, 9));
    driver.close();
    memory.close();
    memfd.close();
  }));

test('memory without a descriptor is reached by DMA_READ and DMA_WRITE', () =>
  withBorrower((client) => {
    const memory = new Pages();
    client.memory = memory;
    client.dmaMap(0x100000, 64 * PAGE, BOTH);
    memory.write(0x100010, pattern(100_000, 3));
    const driver = new IoatDriver(client);
    assert.equal(driver.copy(0x100010, 0x120000, 100_000), 'ok');
    const back = Buffer.alloc(100_000);
    memory.read(0x120000, back);
    assert.deepEqual(back, pattern(100_000, 3));
    assert.ok(memory.reads > 1 && memory.writes > 1);
    client.memory = null;
    assert.equal(
      driver.copy(0x100010, 0x120000, 100),
      'read data error',
      'a client that refuses is an error of the transfer',
    );
    driver.close();
  }));

test('a file that may shrink is read by calls, and a cut of it is an error of the transfer', () =>
  withBorrower((client) => {
    const folder = mkdtempSync(join(tmpdir(), 'barter-dma-'));
    const path = join(folder, 'memory');
    writeFileSync(path, pattern(4 * PAGE, 5));
    const file = openSync(path, 'r+');
    try {
      client.dmaMap(0x100000, 4 * PAGE, BOTH, file);
      const driver = new IoatDriver(client);
      assert.equal(driver.copy(0x100000, 0x102000, PAGE), 'ok');
      ftruncateSync(file, PAGE);
      assert.notEqual(driver.copy(0x103000, 0x100000, 64), 'ok');
      assert.equal(driver.copy(0x100000, 0x100800, 64), 'ok', 'what is left of it goes on');
      assert.notEqual(driver.copy(0x100000, 0x103000, 64), 'ok', 'a write does not make it longer');
      driver.close();
    } finally {
      closeSync(file);
      rmSync(folder, { recursive: true });
    }
  }));

test('a read-only descriptor takes no writes of the device', () =>
  withBorrower((client) => {
    const folder = mkdtempSync(join(tmpdir(), 'barter-dma-'));
    const path = join(folder, 'memory');
    writeFileSync(path, pattern(PAGE, 5));
    const file = openSync(path, 'r');
    try {
      assert.equal(
        outcome(() => client.dmaMap(0x100000, PAGE, READ, file)),
        'ok',
      );
      const driver = new IoatDriver(client);
      for (const flags of [WRITE, BOTH]) {
        assert.equal(
          outcome(() => client.dmaMap(0x200000, PAGE, flags, file)),
          'EACCES',
          'it is not open for writing',
        );
      }
      assert.equal(driver.copy(0x100000, 0x200000, 64), 'write data error');
      driver.close();
    } finally {
      closeSync(file);
      rmSync(folder, { recursive: true });
    }
  }));

test('an unmap and a reset do not wait for an answer that the client owes; the late answer is taken', async () => {
  await server.assertNothingLeft();
  const client = RawClient.ready(server.path('borrower'));
  const map = vfio_user_dma_map.encode({ argsz: 32, flags: BOTH, addr: 0x100000, size: PAGE });
  const write = (region: number, offset: number, ...bytes: number[]) => {
    const payload = Buffer.concat([
      vfio_user_region_access.encode({ offset, region, count: bytes.length }),
      Uint8Array.from(bytes),
    ]);
    client.sendMessage({ command: VFIO_USER_REGION_WRITE, flags: 0x10 }, payload);
  };
  /** Starts the engine on a chain in the client's memory: its first step is a DMA_READ of a descriptor. */
  const start = () => {
    assert.equal(client.outcome({ command: VFIO_USER_DMA_MAP }, map), 'ok');
    write(7, 4, 6, 0);
    write(0, 0x90, 0, 0, 0x10, 0, 0, 0, 0, 0);
    write(0, 0x86, 1, 0);
    const read = client.receive();
    assert.equal(read?.command, VFIO_USER_DMA_READ);
    return read!;
  };
  const late = (read: RawReply, bytes: number) =>
    client.sendMessage({ id: read.id, command: VFIO_USER_DMA_READ, flags: 1 }, Buffer.alloc(bytes));
  const unmap = vfio_user_dma_unmap.encode({ argsz: 24, addr: 0x100000, size: PAGE });
  for (const [command, payload, bytes] of [
    [VFIO_USER_DMA_UNMAP, unmap, 16 + 64],
    [VFIO_USER_DEVICE_RESET, undefined, 16 + 64],
    // The server ignores the reply's content from now on.
    [VFIO_USER_DMA_UNMAP, unmap, 3],
  ] as const) {
    const read = start();
    const began = performance.now();
    assert.equal(client.outcome({ command }, payload), 'ok');
    assert.ok(performance.now() - began < 2000, 'long before the client would count as gone');
    late(read, bytes);
    client.outcome({ command: VFIO_USER_DMA_UNMAP }, unmap);
    write(0, 0x84, 0x20);
    write(0, 0xa8, 0xff, 0xff, 0xff, 0xff);
  }
  client.close();
  await server.assertNothingLeft();
});

test('requests that wait behind one that gives way are served as they were sent', () => {
  const inside = new InProcessServer();
  const client = inside.ready('borrower');
  const memfd = createMemfd('test', 64 * PAGE);
  const map = (page: number) =>
    client.send(
      message(
        { id: 100 + page, command: VFIO_USER_DMA_MAP },
        vfio_user_dma_map.encode({ argsz: 32, flags: BOTH, offset: page * PAGE, addr: page * PAGE, size: PAGE }),
      ),
      [memfd.fd],
    );
  map(1);
  inside.pump();
  assert.equal(client.tryReceive()?.error, 0);
  const all = vfio_user_dma_unmap.encode({ argsz: 24, addr: PAGE, size: 32 * PAGE });
  client.sendMessage({ command: VFIO_USER_DMA_UNMAP }, all);
  for (let page = 1; page < 32; page++) map(page);
  client.sendMessage({ command: VFIO_USER_DMA_UNMAP }, all);
  inside.pump();
  assert.equal(client.tryReceive()?.error, 0);
  for (let page = 1; page < 32; page++) assert.deepEqual(errorOf(client.tryReceive()), [100 + page, 0]);
  const unmapped = client.tryReceive();
  assert.equal(unmapped?.payload.readBigUInt64LE(16), 31n * 4096n);
  client.close();
  memfd.close();
  inside.close();
});

function errorOf(reply: RawReply | null | undefined): [number, number] {
  return [reply?.id ?? -1, reply?.error ?? -1];
}
