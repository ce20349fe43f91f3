/** Importers that send invalid messages: a test for each row of the table in docs/dma-buf-socket.md. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  DMA_BUF_SOCKET_ADD_FENCE,
  DMA_BUF_SOCKET_ATTACH,
  DMA_BUF_SOCKET_COMMAND_NAMES,
  DMA_BUF_SOCKET_DETACH,
  DMA_BUF_SOCKET_FOREVER,
  DMA_BUF_SOCKET_INVALIDATE,
  DMA_BUF_SOCKET_MAP,
  DMA_BUF_SOCKET_OPEN,
  DMA_BUF_SOCKET_QUERY,
  DMA_BUF_SOCKET_SET_NAME,
  DMA_BUF_SOCKET_SIGNAL_FENCE,
  DMA_BUF_SOCKET_UNMAP,
  DMA_BUF_SOCKET_WAIT,
  dma_buf_socket_fence,
  dma_buf_socket_id,
  dma_buf_socket_map,
  dma_buf_socket_open,
  dma_buf_socket_signal,
  dma_buf_socket_wait,
} from '../../src/abi/dma-buf-socket.ts';
import { SHUT_WR, SOCK_SEQPACKET } from '../../src/abi/socket.ts';
import { VFIO_USER_DEVICE_FEATURE, VFIO_USER_REGION_WRITE } from '../../src/abi/vfio-user.ts';
import { createEventfd } from '../../src/linux/eventfd.ts';
import type { OwnedFd } from '../../src/linux/fd.ts';
import { createMemfd } from '../../src/linux/memfd.ts';
import { shutdownSocket, socketPair } from '../../src/linux/socket.ts';
import { BlockingImporter } from '../../src/vfio-user/dma-buf/blocking-importer.ts';
import { IMPORTER_LIMITS } from '../../src/vfio-user/dma-buf/limits.ts';
import { InProcessServer } from './in-process.ts';
import { Lender } from './lender.ts';
import { exportArgument, outcome } from './lent.ts';
import { message } from './raw-client.ts';
import { OPEN, RawImporter, sendPacket } from './raw-importer.ts';
import { withServer } from './served.ts';

const server = await withServer(undefined, 300);
const id = (value: number) => dma_buf_socket_id.encode({ id: value });

/** Another importer gets right answers at once. */
function assertGoesOn(buffer: OwnedFd): void {
  const client = new BlockingImporter(buffer, { onInvalidate: () => {} });
  assert.equal(client.query().sizeBytes, 65536);
  client.map(client.attach()).fds[0].close();
  client.close();
}

async function withBuffer(body: (buffer: OwnedFd, lender: Lender) => void | Promise<void>): Promise<void> {
  await server.assertNothingLeft();
  server.log.length = 0;
  const lender = new Lender(server.path('lender'));
  const buffer = lender.export();
  try {
    await body(buffer, lender);
    assertGoesOn(buffer);
  } finally {
    buffer.close();
    lender.close();
  }
  await server.assertNothingLeft();
  assert.deepEqual(
    server.log.filter((line) => !/importer dropped: .*: E[A-Z]+:|keeps/.test(line)),
    [],
  );
}

test('what is no OPEN on the descriptor of a buffer is dropped, with its descriptors', () =>
  withBuffer((buffer) => {
    const memfd = createMemfd('test', 4096);
    const [stream, other] = socketPair('stream');
    const wrong: [string, Uint8Array, number[]][] = [
      ['nothing', Buffer.alloc(0), []],
      ['a byte', Buffer.alloc(1), []],
      ['another command', message({ command: DMA_BUF_SOCKET_QUERY }), []],
      ['a reply', message({ command: DMA_BUF_SOCKET_OPEN, flags: 1 }, OPEN.subarray(16)), [memfd.fd]],
      ['no descriptor', OPEN, []],
      ['two', OPEN, [memfd.fd, memfd.fd]],
      ['a memfd', OPEN, [memfd.fd]],
      ['a stream', OPEN, [stream.fd]],
      ['the buffer itself', OPEN, [buffer.fd]],
      ['a size that lies', message({ command: DMA_BUF_SOCKET_OPEN, size: 4096 }, OPEN.subarray(16)), [memfd.fd]],
      ['too long', Buffer.concat([OPEN, Buffer.alloc(4096)]), [memfd.fd]],
      ['many descriptors', OPEN, new Array(200).fill(memfd.fd)],
    ];
    for (const [name, bytes, fds] of wrong) assert.equal(sendPacket(buffer.fd, bytes, fds), bytes.length, name);
    for (const fd of [memfd, stream, other]) fd.close();
  }));

test('both ends of one pair: the server does not talk to itself for ever', () =>
  withBuffer((buffer) => {
    const importer = new RawImporter(buffer);
    sendPacket(buffer.fd, OPEN, [importer.socket.fd]);
    importer.close();
  }));

test('another version is refused', () =>
  withBuffer((buffer) => {
    for (const open of [{ major: 2 }, { major: 1, flags: 1 }, { major: 0 }]) {
      const bytes = message({ command: DMA_BUF_SOCKET_OPEN }, dma_buf_socket_open.encode(open));
      const importer = new RawImporter(buffer, bytes);
      assert.equal(importer.receive()?.error, 22);
      assert.equal(importer.receive(), null);
      importer.close();
    }
  }));

test('wrong requests get their errors, and the session goes on', () =>
  withBuffer((buffer) => {
    const importer = RawImporter.ready(buffer);
    const attachment = importer.attach();
    const map = (fields: { attachment: number; flags: number }) => dma_buf_socket_map.encode(fields);
    const wrong: [string, number, Uint8Array][] = [
      ['ENOSYS', 999, Buffer.alloc(0)],
      ['ENOSYS', DMA_BUF_SOCKET_OPEN, OPEN.subarray(16)],
      ['ENOSYS', DMA_BUF_SOCKET_INVALIDATE, id(attachment)],
      ['EINVAL', DMA_BUF_SOCKET_QUERY, Buffer.alloc(4)],
      ['EINVAL', DMA_BUF_SOCKET_SET_NAME, Buffer.alloc(32, 65)],
      ['EINVAL', DMA_BUF_SOCKET_SET_NAME, Buffer.alloc(31)],
      ['EINVAL', DMA_BUF_SOCKET_ATTACH, id(1)],
      ['ENOENT', DMA_BUF_SOCKET_DETACH, id(77)],
      ['EINVAL', DMA_BUF_SOCKET_DETACH, id(77).subarray(0, 4)],
      ['EINVAL', DMA_BUF_SOCKET_UNMAP, dma_buf_socket_id.encode({ id: 1, reserved: 1 })],
      ['ENOENT', DMA_BUF_SOCKET_UNMAP, id(attachment)],
      ['ENOENT', DMA_BUF_SOCKET_MAP, map({ attachment: 0, flags: 3 })],
      ['EINVAL', DMA_BUF_SOCKET_MAP, map({ attachment, flags: 0 })],
      ['EINVAL', DMA_BUF_SOCKET_MAP, map({ attachment, flags: 2 })],
      ['EINVAL', DMA_BUF_SOCKET_MAP, map({ attachment, flags: 5 })],
      ['EINVAL', DMA_BUF_SOCKET_MAP, Buffer.alloc(100)],
      ['ENOENT', DMA_BUF_SOCKET_ADD_FENCE, dma_buf_socket_fence.encode({ attachment: 77, usage: 0 })],
      ['EINVAL', DMA_BUF_SOCKET_ADD_FENCE, dma_buf_socket_fence.encode({ attachment, usage: 4 })],
      ['ENOENT', DMA_BUF_SOCKET_SIGNAL_FENCE, dma_buf_socket_signal.encode({ fence: 5 })],
      ['EINVAL', DMA_BUF_SOCKET_WAIT, dma_buf_socket_wait.encode({ events: 0 })],
      ['EINVAL', DMA_BUF_SOCKET_WAIT, dma_buf_socket_wait.encode({ events: 2 })],
    ];
    for (const [errno, command, payload] of wrong) {
      const name = `${DMA_BUF_SOCKET_COMMAND_NAMES.get(command)} ${Buffer.from(payload).toString('hex')}`;
      assert.equal(importer.outcome({ command }, payload), errno, name);
    }
    const event = createEventfd();
    assert.equal(importer.outcome({ command: DMA_BUF_SOCKET_QUERY }, undefined, [event.fd]), 'EINVAL');
    event.close();
    assert.equal(importer.outcome({ command: DMA_BUF_SOCKET_DETACH }, id(attachment)), 'ok');
    importer.close();
  }));

test('packets that are not messages end the session, and nothing else', () =>
  withBuffer((buffer) => {
    const event = createEventfd();
    const ending: [string, Uint8Array, number[]][] = [
      ['a byte', Buffer.alloc(1), []],
      ['a size that lies', message({ command: 2, size: 17 }), []],
      ['a type that there is not', message({ command: 2, flags: 7 }), []],
      ['too long', message({ command: DMA_BUF_SOCKET_SET_NAME }, Buffer.alloc(8192)), []],
      ['too many descriptors', message({ command: 2 }), new Array(100).fill(event.fd)],
      ['an answer that nobody waits for', message({ command: DMA_BUF_SOCKET_INVALIDATE, flags: 1 }), []],
    ];
    for (const [name, bytes, fds] of ending) {
      const importer = RawImporter.ready(buffer);
      sendPacket(importer.socket.fd, bytes, fds);
      assert.equal(importer.receive(), null, name);
      importer.close();
    }
    event.close();
  }));

test('an error does not answer INVALIDATE', () =>
  withBuffer((buffer, lender) => {
    const importer = RawImporter.ready(buffer);
    importer.map(importer.attach());
    lender.startMemory(false);
    const told = importer.receive()!;
    assert.equal(told.command, DMA_BUF_SOCKET_INVALIDATE);
    importer.send({ id: told.id, command: told.command, flags: 0x21, error: 5 });
    assert.equal(importer.receive(), null);
    lender.answer();
    lender.memory(true);
    importer.close();
  }));

test('attachments, mappings, fences and sessions: as many as the table says', () =>
  withBuffer(async (buffer) => {
    const importer = RawImporter.ready(buffer);
    const attachments = Array.from({ length: IMPORTER_LIMITS.maxAttachments }, () => importer.attach());
    assert.equal(importer.outcome({ command: DMA_BUF_SOCKET_ATTACH }, id(0)), 'ENOSPC');
    const [attachment] = attachments;
    const map = dma_buf_socket_map.encode({ attachment, flags: 1 });
    for (let i = 0; i < IMPORTER_LIMITS.maxMappings; i++) {
      assert.equal(importer.outcome({ command: DMA_BUF_SOCKET_MAP }, map), 'ok');
    }
    assert.equal(importer.outcome({ command: DMA_BUF_SOCKET_MAP }, map), 'ENOSPC');
    const fence = dma_buf_socket_fence.encode({ attachment, usage: 3 });
    for (let i = 0; i < IMPORTER_LIMITS.maxFences; i++) {
      assert.equal(importer.outcome({ command: DMA_BUF_SOCKET_ADD_FENCE }, fence), 'ok');
    }
    assert.equal(importer.outcome({ command: DMA_BUF_SOCKET_ADD_FENCE }, fence), 'ENOSPC');
    const others = Array.from({ length: IMPORTER_LIMITS.maxSessions - 1 }, () => RawImporter.ready(buffer));
    assert.equal(
      outcome(() => new BlockingImporter(buffer, { onInvalidate: () => {} })),
      'EMFILE',
    );
    for (const each of [importer, ...others]) each.close();
    // The server reads the ends of the sessions one after the other.
    while (outcome(() => new BlockingImporter(buffer, { onInvalidate: () => {} }).close()) !== 'ok') await sleep(2);
  }));

test('sessions of all buffers together are limited', () =>
  withBuffer(async (buffer, lender) => {
    const most = IMPORTER_LIMITS.maxSessionsOfAll;
    const buffers = Array.from({ length: most / IMPORTER_LIMITS.maxSessions }, () => lender.export());
    const open = (fd: OwnedFd) => Array.from({ length: IMPORTER_LIMITS.maxSessions }, () => RawImporter.ready(fd));
    const sessions = buffers.flatMap(open);
    const connect = () => new BlockingImporter(buffer, { onInvalidate: () => {} }).close();
    assert.equal(outcome(connect), 'EMFILE');
    for (const each of [...sessions, ...buffers]) each.close();
    while (outcome(connect) !== 'ok') await sleep(2);
  }));

test('whoever opens a session and does not wait for the answer takes no place', () =>
  withBuffer((buffer) => {
    for (let i = 0; i < 2 * IMPORTER_LIMITS.maxSessions; i++) {
      while (sendOpenAndLeave(buffer) < 0) {}
    }
  }));

function sendOpenAndLeave(buffer: OwnedFd): number {
  const [ours, theirs] = socketPair('session', SOCK_SEQPACKET);
  ours.close();
  const sent = sendPacket(buffer.fd, OPEN, [theirs.fd]);
  theirs.close();
  return sent;
}

test('a holder that shuts the socket down ends the opening of sessions, and nothing else', () => {
  const served = new InProcessServer();
  const lender = served.ready('lender');
  const on = Buffer.from([4, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 2, 0, 0, 0, 6, 0]);
  lender.send(message({ command: VFIO_USER_REGION_WRITE }, on));
  lender.send(message({ command: VFIO_USER_DEVICE_FEATURE }, exportArgument({})));
  served.pump();
  lender.tryReceive();
  const [buffer] = lender.tryReceive()!.fds;
  const importer = new RawImporter(buffer);
  served.pump();
  assert.equal(importer.receive(false)?.error, 0);
  shutdownSocket(buffer, SHUT_WR);
  // Returns if there is nothing to do: the server does not spin.
  served.pump();
  importer.send({ command: DMA_BUF_SOCKET_QUERY });
  served.pump();
  assert.equal(importer.receive(false)?.error, 0);
  assert.equal(served.server.exports.size, 1);
  buffer.close();
  served.pump();
  assert.equal(served.server.exports.size, 0);
  importer.close();
  lender.close();
  served.close();
});

test('requests that wait are limited; a fence is signalled all the same', () =>
  withBuffer((buffer) => {
    const importer = RawImporter.ready(buffer);
    const fence = dma_buf_socket_fence.encode({ attachment: importer.attach(), usage: 1 });
    importer.send({ command: DMA_BUF_SOCKET_ADD_FENCE }, fence);
    const added = importer.receive()!.payload.readUInt32LE();
    const wait = dma_buf_socket_wait.encode({ events: 1, timeout_ms: DMA_BUF_SOCKET_FOREVER });
    for (let i = 0; i < IMPORTER_LIMITS.maxRequests; i++)
      importer.send({ id: 100 + i, command: DMA_BUF_SOCKET_WAIT }, wait);
    assert.equal(importer.outcome({ command: DMA_BUF_SOCKET_WAIT }, wait), 'EBUSY');
    assert.equal(
      importer.outcome({ command: DMA_BUF_SOCKET_SIGNAL_FENCE }, dma_buf_socket_signal.encode({ fence: added })),
      'ok',
    );
    assert.equal(importer.outcome({ command: DMA_BUF_SOCKET_QUERY }), 'ok');
    importer.close();
  }));

test('an importer that reads nothing is dropped before what it is told fills the memory', () =>
  withBuffer(async (buffer, lender) => {
    const importer = RawImporter.ready(buffer);
    importer.attach();
    for (let i = 0; i <= IMPORTER_LIMITS.maxInvalidates; i++) {
      lender.memory(false);
      lender.memory(true);
    }
    while (!server.log.some((line) => /importer dropped/.test(line))) await sleep(2);
    while (importer.receive() !== null) {}
    importer.close();
  }));

test('a buffer of more ranges than fit into a message is not mapped', () =>
  withBuffer((_buffer, lender) => {
    const ranges = Array.from({ length: IMPORTER_LIMITS.maxRanges + 1 }, (): [number, number] => [0, 4096]);
    const many = lender.export({ ranges });
    const client = new BlockingImporter(many, { onInvalidate: () => {} });
    assert.equal(
      outcome(() => client.map(client.attach())),
      'E2BIG',
    );
    client.close();
    many.close();
    const most = lender.export({ ranges: ranges.slice(1) });
    const other = new BlockingImporter(most, { onInvalidate: () => {} });
    const mapped = other.map(other.attach());
    assert.equal(mapped.ranges.length, IMPORTER_LIMITS.maxRanges);
    for (const fd of mapped.fds) fd.close();
    other.close();
    most.close();
  }));

test('a BAR that is registers is lent, and cannot be mapped', () =>
  withBuffer(() => {
    const engine = new Lender(server.path('borrower'));
    const registers = engine.export({ ranges: [[0, 4096]] });
    const client = new BlockingImporter(registers, { onInvalidate: () => {} });
    assert.equal(
      outcome(() => client.map(client.attach())),
      'EOPNOTSUPP',
    );
    client.close();
    registers.close();
    engine.close();
  }));
