/** A server that borrows from a foreign exporter, whose messages may be wrong and come at any moment. */
import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, openSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import {
  DMA_BUF_SOCKET_ATTACH,
  DMA_BUF_SOCKET_INVALIDATE,
  DMA_BUF_SOCKET_MAP,
  DMA_BUF_SOCKET_OPEN,
  DMA_BUF_SOCKET_QUERY,
  dma_buf_socket_id,
  dma_buf_socket_info,
  dma_buf_socket_mapped,
  dma_buf_socket_opened,
  dma_buf_socket_range,
} from '../../src/abi/dma-buf-socket.ts';
import { errnoName } from '../../src/abi/errno.ts';
import { SOCK_SEQPACKET } from '../../src/abi/socket.ts';
import { VFIO_USER_DMA_MAP, vfio_user_dma_map } from '../../src/abi/vfio-user.ts';
import type { OwnedFd } from '../../src/linux/fd.ts';
import { createMemfd } from '../../src/linux/memfd.ts';
import { setSocketTimeout, socketPair } from '../../src/linux/socket.ts';
import { VfioUserClient } from '../../src/vfio-user/client/client.ts';
import { message, RawClient, type RawHeader } from './raw-client.ts';
import { PacketEnd, type RawPacket } from './raw-importer.ts';
import { withServer } from './served.ts';

const server = await withServer();
const SIZE = 16384;
const LENT = 0x800000;

interface Range {
  fd_offset: number;
  length: number;
  fd_index?: number;
}

/** Plays the exporter, one request at a time. */
class FakeExporter {
  readonly buffer: OwnedFd;
  session!: PacketEnd;
  private readonly queue: PacketEnd;

  constructor() {
    const [ours, theirs] = socketPair('fake dma-buf', SOCK_SEQPACKET);
    setSocketTimeout(ours, 5000);
    this.queue = new PacketEnd(ours);
    this.buffer = theirs;
  }

  /** Receives OPEN and replies. */
  open(): void {
    const packet = this.queue.receive()!;
    assert.equal(packet.command, DMA_BUF_SOCKET_OPEN);
    assert.equal(packet.fds.length, 1);
    setSocketTimeout(packet.fds[0], 5000);
    this.session = new PacketEnd(packet.fds[0]);
    this.reply(packet, dma_buf_socket_opened.encode({ major: 1 }));
  }

  next(command: number): RawPacket {
    const packet = this.session.receive()!;
    assert.equal(packet.command, command);
    return packet;
  }

  reply({ id, command }: RawPacket, payload: Uint8Array, fds: readonly number[] = []): void {
    this.session.send({ id, command, flags: 1 }, payload, fds);
  }

  /** Plays everything up to the MAP request, and returns that request. */
  upToMap(sizeBytes = SIZE): RawPacket {
    this.open();
    this.reply(this.next(DMA_BUF_SOCKET_QUERY), dma_buf_socket_info.encode({ size: sizeBytes }));
    this.reply(this.next(DMA_BUF_SOCKET_ATTACH), dma_buf_socket_id.encode({ id: 1 }));
    return this.next(DMA_BUF_SOCKET_MAP);
  }

  mapped(request: RawPacket, ranges: readonly Range[], fds: readonly number[], said = ranges.length): void {
    const head = dma_buf_socket_mapped.encode({ mapping: 2, nr_ranges: said });
    this.reply(request, Buffer.concat([head, ...ranges.map((range) => dma_buf_socket_range.encode(range))]), fds);
  }

  invalidate(): void {
    this.session.send({ id: 9, command: DMA_BUF_SOCKET_INVALIDATE }, dma_buf_socket_id.encode({ id: 1 }));
  }

  close(): void {
    this.session?.close();
    this.queue.close();
    this.buffer.close();
  }
}

/** A client asks for DMA_MAP while `body` plays the exporter. Returns the result of the request. */
async function whileMapping(body: (exporter: FakeExporter) => void, after: () => void = () => {}): Promise<string> {
  await server.assertNothingLeft();
  const exporter = new FakeExporter();
  const client = RawClient.ready(server.path('borrower'));
  const request = vfio_user_dma_map.encode({ argsz: 32, flags: 3, addr: LENT, size: SIZE });
  client.send(message({ command: VFIO_USER_DMA_MAP }, request), [exporter.buffer.fd]);
  body(exporter);
  const reply = client.receive()!;
  after();
  const bystander = new VfioUserClient(server.path('bystander'));
  bystander.readRegion(0, 0, Buffer.alloc(4));
  bystander.close();
  client.close();
  exporter.close();
  await server.assertNothingLeft();
  return reply.error === 0 ? 'ok' : errnoName(reply.error);
}

function withMemfd<T>(body: (fd: number) => T, sizeBytes = SIZE): T {
  const memfd = createMemfd('fake', sizeBytes);
  try {
    return body(memfd.fd);
  } finally {
    memfd.close();
  }
}

test('a revoke in the middle of a map is answered, and the region is not mapped', async () => {
  const outcome = await whileMapping((exporter) => {
    const request = exporter.upToMap();
    exporter.invalidate();
    withMemfd((fd) => exporter.mapped(request, [{ fd_offset: 0, length: SIZE }], [fd]));
    const answer = exporter.session.receive()!;
    assert.deepEqual([answer.id, answer.isReply, answer.error], [9, true, 0]);
  });
  assert.equal(outcome, 'ENODEV');
});

test('several files, and neighbours in them, make up a buffer', async () => {
  const outcome = await whileMapping((exporter) => {
    const request = exporter.upToMap();
    withMemfd((a) =>
      withMemfd((b) =>
        exporter.mapped(
          request,
          [
            { fd_offset: 4096, length: 4096, fd_index: 1 },
            { fd_offset: 8192, length: 8192 },
            { fd_offset: 0, length: 4096, fd_index: 1 },
          ],
          [a, b],
        ),
      ),
    );
  });
  assert.equal(outcome, 'ok');
});

const LIES: [string, string, (exporter: FakeExporter) => void][] = [
  ['ranges that are too short', 'EPROTO', (e) => lie(e, [{ fd_offset: 0, length: 4096 }])],
  ['a range behind the end of its file', 'EINVAL', (e) => lie(e, [{ fd_offset: SIZE, length: SIZE }])],
  [
    'ranges that are not of whole pages',
    'EINVAL',
    (e) =>
      lie(e, [
        { fd_offset: 0, length: 100 },
        { fd_offset: 100, length: SIZE },
      ]),
  ],
  ['a descriptor that did not come', 'EPROTO', (e) => lie(e, [{ fd_offset: 0, length: SIZE, fd_index: 1 }])],
  ['a number of ranges that lies', 'EPROTO', (e) => lie(e, [{ fd_offset: 0, length: SIZE }], 0xffffffff)],
  ['an offset of 64 bits', 'EOVERFLOW', (e) => lieBig(e)],
  ['a socket for memory', 'EINVAL', (e) => e.mapped(e.upToMap(), [{ fd_offset: 0, length: SIZE }], [e.buffer.fd])],
  [
    'an answer that was not asked for',
    'EPROTO',
    (e) => lieAtOnce(e, { id: 77, command: DMA_BUF_SOCKET_QUERY, flags: 1 }),
  ],
  ['a short answer', 'EPROTO', (e) => lieToQuery(e, { flags: 1 }, Buffer.alloc(4))],
  ['a refusal', 'EACCES', (e) => lieToQuery(e, { flags: 0x21, error: 13 })],
  ['the end of the session', 'ECONNRESET', (e) => leave(e)],
];

function lie(exporter: FakeExporter, ranges: readonly Range[], said?: number): void {
  const request = exporter.upToMap();
  withMemfd((fd) => exporter.mapped(request, ranges, [fd], said));
}

function lieBig(exporter: FakeExporter): void {
  const request = exporter.upToMap();
  const head = dma_buf_socket_mapped.encode({ mapping: 2, nr_ranges: 1 });
  const range = dma_buf_socket_range.encode({ fd_offset: (1n << 63n) - 1n, length: SIZE });
  withMemfd((fd) => exporter.reply(request, Buffer.concat([head, range]), [fd]));
}

function lieAtOnce(exporter: FakeExporter, header: RawHeader): void {
  exporter.open();
  exporter.session.send(header);
}

function lieToQuery(exporter: FakeExporter, header: Omit<RawHeader, 'command'>, payload?: Uint8Array): void {
  exporter.open();
  const { id, command } = exporter.next(DMA_BUF_SOCKET_QUERY);
  exporter.session.send({ id, command, ...header }, payload);
}

function leave(exporter: FakeExporter): void {
  exporter.upToMap();
  exporter.session.close();
}

for (const [name, errno, body] of LIES) {
  test(`refused, and nothing left: ${name}`, async () => {
    assert.equal(await whileMapping(body), errno);
  });
}

test('a file that shrinks when it is mapped cannot hurt the borrower', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'barter-fake-'));
  const path = join(folder, 'memory');
  writeFileSync(path, Buffer.alloc(SIZE));
  const map = (exporter: FakeExporter) => {
    const request = exporter.upToMap();
    const file = openSync(path, 'r+');
    exporter.mapped(request, [{ fd_offset: 0, length: SIZE }], [file]);
    closeSync(file);
  };
  assert.equal(await whileMapping(map, () => truncateSync(path, 0)), 'ok');
  rmSync(folder, { recursive: true });
});
