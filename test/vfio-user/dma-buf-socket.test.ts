/** The protocol of docs/dma-buf-socket.md, between a server's thread and importers in this one. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { DMA_BUF_SOCKET_ADD_FENCE, dma_buf_socket_fence } from '../../src/abi/dma-buf-socket.ts';
import { POLLIN, POLLOUT } from '../../src/abi/poll.ts';
import { DMA_RESV_USAGE_BOOKKEEP, DMA_RESV_USAGE_READ, DMA_RESV_USAGE_WRITE } from '../../src/dma-buf/resv.ts';
import type { OwnedFd } from '../../src/linux/fd.ts';
import { Mapping } from '../../src/linux/mapping.ts';
import { BlockingImporter } from '../../src/vfio-user/dma-buf/blocking-importer.ts';
import { Lender } from './lender.ts';
import { outcome } from './lent.ts';
import { RawImporter } from './raw-importer.ts';
import { withServer } from './served.ts';

const TIMEOUT_MS = 400;
const server = await withServer(undefined, TIMEOUT_MS);

/** An importer with one attachment, and one mapping of the whole buffer. */
class Importer {
  readonly told: string[] = [];
  readonly client: BlockingImporter;
  readonly attachment: number;
  mapping = 0;
  maps: Mapping[] = [];
  /** Called on INVALIDATE; unmaps. */
  onInvalidate = () => this.letGo();

  constructor(buffer: OwnedFd) {
    this.client = new BlockingImporter(buffer, {
      onInvalidate: (attachment) => {
        this.told.push(`invalidate ${attachment}`);
        this.onInvalidate();
      },
      onRestore: (attachment) => this.told.push(`restore ${attachment}`),
      onClose: () => this.told.push('close'),
    });
    this.attachment = this.client.attach();
  }

  map(writable = true): this {
    const { id, fds, ranges } = this.client.map(this.attachment, writable);
    this.mapping = id;
    this.maps = ranges.map(({ fd, offset, sizeBytes }) =>
      Mapping.map({ fd: fd.fd, offset, sizeBytes, writable, what: 'lent' }),
    );
    for (const fd of fds) fd.close();
    return this;
  }

  letGo(): void {
    for (const map of this.maps.splice(0)) map.close();
  }

  close(): void {
    this.letGo();
    this.client.close();
  }
}

async function withLender(body: (lender: Lender) => void | Promise<void>): Promise<void> {
  await server.assertNothingLeft();
  server.log.length = 0;
  const lender = new Lender(server.path('lender'));
  try {
    await body(lender);
  } finally {
    lender.close();
  }
  await server.assertNothingLeft();
}

async function logged(pattern: RegExp): Promise<string> {
  for (const deadline = performance.now() + 2000; performance.now() < deadline; await sleep(2)) {
    const line = server.log.find((each) => pattern.test(each));
    if (line !== undefined) return line;
  }
  assert.fail(`no line like ${pattern} in ${server.log.join('\n')}`);
}

test('a copy of the descriptor is enough to ask, attach, map and reach the bytes', () =>
  withLender((lender) => {
    const buffer = lender.export({
      ranges: [
        [65536, 8192],
        [0, 4096],
      ],
    });
    const importer = new Importer(buffer);
    buffer.close();
    assert.deepEqual(importer.client.query(), {
      sizeBytes: 12288,
      isRevoked: false,
      exporter: 'vfio_pci_core',
      name: '',
    });
    importer.client.setName('scratch');
    assert.equal(importer.client.query().name, 'scratch');
    assert.equal(
      outcome(() => importer.client.setName('x'.repeat(32))),
      'EINVAL',
    );
    importer.map();
    assert.deepEqual(
      importer.maps.map((map) => map.sizeBytes),
      [8192, 4096],
    );
    importer.maps[0].write(5, Buffer.from([0x5a]));
    assert.equal(lender.read(65536 + 5), 0x5a);
    lender.write(9, 0xa5);
    assert.equal(importer.maps[1].view.getUint8(9), 0xa5);
    importer.letGo();
    importer.client.unmap(importer.mapping);
    assert.equal(
      outcome(() => importer.client.unmap(importer.mapping)),
      'ENOENT',
      'given back twice',
    );
    importer.client.detach(importer.attachment);
    assert.equal(
      outcome(() => importer.client.detach(importer.attachment)),
      'ENOENT',
    );
    importer.close();
    assert.deepEqual(server.log, []);
  }));

test('copies of one descriptor have sessions of their own, each with several attachments', () =>
  withLender((lender) => {
    const buffer = lender.export();
    const copy = buffer.duplicate();
    const [a, b] = [new Importer(buffer), new Importer(copy)];
    const second = a.client.attach();
    assert.notEqual(second, a.attachment);
    a.map();
    b.map();
    a.maps[0].write(1, Buffer.from([7]));
    assert.equal(b.maps[0].view.getUint8(1), 7);
    for (const fd of [buffer, copy]) fd.close();
    a.close();
    b.close();
  }));

test('a mapping for reading cannot be written through', () =>
  withLender((lender) => {
    const buffer = lender.export();
    const importer = new Importer(buffer);
    const { fds, ranges } = importer.client.map(importer.attachment, false);
    const request = { fd: fds[0].fd, offset: ranges[0].offset, sizeBytes: 4096, what: 'lent' };
    assert.equal(
      outcome(() => Mapping.map({ ...request, writable: true })),
      'EACCES',
    );
    Mapping.map({ ...request, writable: false }).close();
    fds[0].close();
    buffer.close();
    importer.close();
  }));

test('a revoke returns when the importer has answered, and the importer hears when it may map again', () =>
  withLender((lender) => {
    const buffer = lender.export();
    const importer = new Importer(buffer).map();
    lender.startMemory(false);
    assert.equal(lender.hasAnswer(50), false, 'the importer still has its mapping');
    assert.equal(importer.maps.length, 1);
    while (importer.told.length === 0) importer.client.poll(-1);
    assert.deepEqual(importer.told, [`invalidate ${importer.attachment}`]);
    assert.ok(lender.hasAnswer(1000));
    lender.answer();
    assert.equal(
      outcome(() => importer.map()),
      'ENODEV',
    );
    assert.equal(importer.client.query().isRevoked, true);
    lender.memory(true);
    while (importer.told.length < 2) importer.client.poll(-1);
    assert.equal(importer.told[1], `restore ${importer.attachment}`);
    importer.map();
    assert.deepEqual(server.log, []);
    buffer.close();
    importer.close();
  }));

test('a close of the device takes the buffer for good; a session outlives it, and is good for nothing', () =>
  withLender(async (lender) => {
    const buffer = lender.export();
    const importer = new Importer(buffer).map();
    lender.close();
    while (importer.told.length === 0) importer.client.poll(-1);
    assert.equal(
      outcome(() => importer.map()),
      'ENODEV',
    );
    assert.equal(
      outcome(() => importer.client.attach()),
      'ENODEV',
    );
    importer.close();
    buffer.close();
  }));

test('a dead importer is as good as unmapped', () =>
  withLender((lender) => {
    const buffer = lender.export();
    const importer = RawImporter.ready(buffer);
    const attachment = importer.attach();
    importer.map(attachment);
    const fence = { command: DMA_BUF_SOCKET_ADD_FENCE };
    assert.equal(importer.outcome(fence, dma_buf_socket_fence.encode({ attachment, usage: 3 })), 'ok');
    lender.startMemory(false);
    assert.equal(lender.hasAnswer(20), false);
    importer.close();
    assert.ok(lender.hasAnswer(200));
    lender.answer();
    buffer.close();
  }));

test('one that neither answers nor dies is named, disconnected, and left with a memory of its own', () =>
  withLender(async (lender) => {
    const buffer = lender.export();
    const importer = new Importer(buffer).map();
    importer.client.setName('kept');
    importer.maps[0].write(0, Buffer.from([1]));
    const began = performance.now();
    lender.startMemory(false);
    assert.ok(lender.hasAnswer(TIMEOUT_MS * 5));
    const took = performance.now() - began;
    assert.ok(took >= TIMEOUT_MS - 5, `disconnected after ${took} ms`);
    lender.answer();
    const uid = process.getuid!();
    const named = await logged(/keeps/);
    assert.match(named, new RegExp(`process ${process.pid} of user ${uid} keeps 1 mappings and 0 fences.*named kept`));
    assert.match(await logged(/dropped/), /ETIMEDOUT/);
    lender.memory(true);
    assert.equal(lender.read(0), 1, 'the bytes moved with the BAR');
    lender.write(0, 2);
    assert.equal(importer.maps[0].view.getUint8(0), 1, 'it sees nothing new');
    importer.maps[0].write(0, Buffer.from([3]));
    assert.equal(lender.read(0), 2, 'its writes reach nobody');
    while (importer.client.isOpen) importer.client.poll(-1);
    assert.deepEqual(importer.told.at(-1), 'close');
    const next = new Importer(buffer).map();
    assert.equal(next.maps[0].view.getUint8(0), 2, 'others go on with the new memory');
    for (const each of [importer, next, buffer]) each.close();
  }));

test('a BAR that its client has mapped itself moves when that client is gone', () =>
  withLender(async (lender) => {
    const bar = lender.takeBar();
    const own = Mapping.map({ fd: bar.fd, offset: 0, sizeBytes: 4096, writable: true, what: 'own' });
    bar.close();
    const buffer = lender.export();
    const importer = new Importer(buffer).map();
    lender.startMemory(false);
    assert.ok(lender.hasAnswer(TIMEOUT_MS * 5));
    lender.answer();
    lender.memory(true);
    own.write(0, Buffer.from([9]));
    assert.equal(lender.read(0), 9, "the client's own mapping is still that of the BAR");
    own.close();
    lender.close();
    buffer.close();
    // The server reads the end of the connection a moment later.
    for (let next: Lender | null = null; next === null; await sleep(2)) {
      try {
        next = new Lender(server.path('lender'));
      } catch {
        continue;
      }
      next.write(0, 10);
      assert.equal(importer.maps[0].view.getUint8(0), 9);
      next.close();
    }
    importer.close();
  }));

test('fences: a revoke waits for them, others wait for them and poll, a dead process signals its own', () =>
  withLender((lender) => {
    const buffer = lender.export();
    const [user, other] = [new Importer(buffer), new Importer(buffer)];
    assert.equal(other.client.wait(POLLIN | POLLOUT, 0), POLLIN | POLLOUT);
    const read = user.client.addFence(user.attachment, DMA_RESV_USAGE_READ);
    assert.equal(other.client.wait(POLLIN | POLLOUT, 0), POLLIN, 'readers do not mind a reader');
    const write = user.client.addFence(user.attachment, DMA_RESV_USAGE_WRITE);
    assert.equal(other.client.wait(POLLIN | POLLOUT, 20), 0);
    user.client.signalFence(read);
    assert.equal(
      outcome(() => user.client.signalFence(read)),
      'ENOENT',
    );
    user.client.signalFence(write, 'EIO');
    assert.equal(other.client.wait(POLLIN | POLLOUT, -1), POLLIN | POLLOUT);
    const held = user.client.addFence(user.attachment, DMA_RESV_USAGE_BOOKKEEP);
    lender.startMemory(false);
    while (user.told.length === 0) user.client.poll(-1);
    while (other.told.length === 0) other.client.poll(-1);
    assert.equal(lender.hasAnswer(30), false, 'the revoke waits for the fence');
    user.client.signalFence(held);
    assert.ok(lender.hasAnswer(200));
    lender.answer();
    assert.equal(
      outcome(() => user.client.addFence(user.attachment, DMA_RESV_USAGE_WRITE)),
      'ENODEV',
    );
    lender.memory(true);
    user.client.addFence(user.attachment, DMA_RESV_USAGE_WRITE);
    assert.equal(other.client.wait(POLLIN, 0), 0);
    user.close();
    assert.equal(other.client.wait(POLLIN, -1), POLLIN, 'signalled by the death of its process');
    other.close();
    buffer.close();
    assert.deepEqual(server.log, []);
  }));

test('an importer that keeps a fence is disconnected too, and its fence with it', () =>
  withLender(async (lender) => {
    const buffer = lender.export();
    const importer = new Importer(buffer).map();
    importer.client.addFence(importer.attachment, DMA_RESV_USAGE_BOOKKEEP);
    lender.startMemory(false);
    while (importer.told.length === 0) importer.client.poll(-1);
    assert.ok(lender.hasAnswer(TIMEOUT_MS * 5));
    lender.answer();
    assert.match(await logged(/dropped/), /1 mappings and 1 fences/);
    importer.close();
    buffer.close();
  }));
