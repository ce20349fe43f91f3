/**
 * Hostile clients beyond what fuzzing finds. Each does its worst to one device, and a client of another device must not
 * notice.
 */
import assert from 'node:assert/strict';
import { close, openSync } from 'node:fs';
import { test } from 'node:test';
import { vfio_device_info, vfio_irq_set } from '../../src/abi/vfio.ts';
import {
  VFIO_USER_DEVICE_FEATURE,
  VFIO_USER_DEVICE_GET_INFO,
  VFIO_USER_DEVICE_RESET,
  VFIO_USER_DEVICE_SET_IRQS,
  VFIO_USER_DMA_MAP,
  VFIO_USER_DMA_READ,
  VFIO_USER_DMA_UNMAP,
  VFIO_USER_REGION_READ,
  VFIO_USER_REGION_WRITE,
  VFIO_USER_VERSION,
  vfio_user_dma_map,
  vfio_user_dma_unmap,
  vfio_user_region_access,
} from '../../src/abi/vfio-user.ts';
import { createEventfd } from '../../src/linux/eventfd.ts';
import { OwnedFd } from '../../src/linux/fd.ts';
import { VfioUserClient } from '../../src/vfio-user/client/client.ts';
import { CLIENT_OFFER, encodeVersion } from '../../src/vfio-user/wire/version.ts';
import { FuzzRandom } from '../fuzz/random.ts';
import { mountSilentFile } from '../linux/fuse.ts';
import { Lingering, oddFds } from './odd-fds.ts';
import { message, RawClient } from './raw-client.ts';
import { withServer } from './served.ts';

const server = await withServer();
const bystander = new VfioUserClient(server.path('bystander'), { timeoutMs: 5000 });
bystander.writeRegion(7, 4, Buffer.from([2, 0]));
let beats = 0;

/** Throws ETIMEDOUT if the server does nothing for five seconds. */
function assertBystanderServed(what: string): void {
  const word = Buffer.alloc(4);
  word.writeUInt32LE(++beats);
  bystander.writeRegion(0, 16, word);
  word.fill(0);
  bystander.readRegion(0, 16, word);
  assert.equal(word.readUInt32LE(), beats, what);
}

async function whenFree(device: string): Promise<RawClient> {
  for (const deadline = performance.now() + 5000; ; await new Promise((resolve) => setTimeout(resolve, 1))) {
    const client = new RawClient(server.path(device));
    const outcome = client.outcome({ command: VFIO_USER_VERSION }, encodeVersion());
    if (outcome === 'ok') return client;
    client.close();
    assert.equal(outcome, 'EBUSY');
    assert.ok(performance.now() < deadline);
  }
}

const dmaMap = (flags = 3) => vfio_user_dma_map.encode({ argsz: 32, flags, addr: 0x100000, size: 4096 });
const info = vfio_device_info.encode({ argsz: 16 });

test('descriptors of every odd kind, wherever one may come, hold up nobody', async (t) => {
  const lingering = new Lingering();
  const kinds = oddFds(server.folder, lingering);
  const fuse = await mountSilentFile(65536);
  if (typeof fuse === 'string') t.diagnostic(`NOT TESTED: a file of FUSE: ${fuse}`);
  else kinds.set('a file of FUSE that does not answer', () => new OwnedFd(openSync(fuse.path, 'r+'), 'file of FUSE'));
  const wakeup = Buffer.alloc(16);
  wakeup.writeUInt32LE(16, 0);
  wakeup.writeUInt32LE(0x20004, 4);
  const irqs = vfio_irq_set.encode({ argsz: 20, flags: 0x24, index: 2, start: 0, count: 1 });
  for (const [kind, make] of kinds) {
    const client = await whenFree('lender');
    const send = (command: number, payload: Uint8Array) => {
      const fd = make();
      client.send(message({ command }, payload), [fd.fd]);
      // The server may have closed its own already. The last close of a lingering socket blocks for a minute.
      if (/socket/.test(kind)) close(fd.release(), () => {});
      else fd.close();
      return client.receive()?.error;
    };
    assert.equal(send(VFIO_USER_DEVICE_GET_INFO, info), 0, `${kind} with a command that wants none`);
    assert.notEqual(send(VFIO_USER_DMA_MAP, dmaMap()), 0, `${kind} is not memory`);
    assert.notEqual(send(VFIO_USER_DEVICE_SET_IRQS, irqs), 0, `${kind} is not an eventfd`);
    assert.notEqual(send(VFIO_USER_DEVICE_FEATURE, wakeup), 0, `${kind} is not an eventfd`);
    assertBystanderServed(kind);
    client.close();
  }
  // The client's own connection.
  const client = await whenFree('lender');
  assert.notEqual(client.outcome({ command: VFIO_USER_DMA_MAP }, dmaMap(), [client.socket.fd]), 'ok');
  client.close();
  lingering.close();
  if (typeof fuse !== 'string') await fuse.close();
});

test('descriptors that nobody takes, too many of a message or behind the last one, hold up nobody', async () => {
  const lingering = new Lingering();
  const event = createEventfd();
  const request = message({ command: VFIO_USER_DEVICE_GET_INFO }, info);
  const sendLast = (client: RawClient, before: number) => {
    const fd = lingering.make();
    client.send(request, [...new Array(before).fill(event.fd), fd.fd]);
    // If the server has hung up already, this is the last reference, and its close would block the test.
    close(fd.release(), () => {});
  };
  const crowd = await whenFree('lender');
  sendLast(crowd, 16);
  crowd.assertDropped();
  assertBystanderServed('one descriptor too many');
  crowd.close();
  for (let i = 0; i < 5; i++) {
    const client = await whenFree('borrower');
    // Ends the connection in the read that brings it. Everything after it stays in the socket.
    client.send(message({ command: VFIO_USER_DEVICE_GET_INFO, size: 3 }), [event.fd]);
    sendLast(client, 0);
    client.assertDropped();
    assertBystanderServed('a descriptor behind the last message');
    client.close();
  }
  event.close();
  lingering.close();
});

test('clients that stop in the middle of a message, or read no replies, hold up nobody else', async () => {
  const halfHeader = await whenFree('lender');
  halfHeader.send(message({ command: VFIO_USER_DEVICE_GET_INFO }, info).subarray(0, 9));
  const halfPayload = await whenFree('borrower');
  const write = vfio_user_region_access.encode({ offset: 0, region: 0, count: 1 << 20 });
  halfPayload.send(message({ command: VFIO_USER_REGION_WRITE, size: 32 + (1 << 20) }, write));
  assertBystanderServed('half messages');
  halfHeader.close();
  halfPayload.close();
  const deaf = await whenFree('lender');
  const read = vfio_user_region_access.encode({ offset: 0, region: 0, count: 1 << 20 });
  for (let sent = 1; sent > 0; ) sent = deaf.send(message({ command: VFIO_USER_REGION_READ }, read), [], 0x40);
  assertBystanderServed('replies that nobody reads');
  deaf.close();
});

test('a flood of connections that say nothing, half of VERSION, or too much, ends with the clients', async () => {
  const version = message({ command: VFIO_USER_VERSION }, encodeVersion());
  for (let i = 0; i < 600; i++) {
    const client = new RawClient(server.path(i % 2 === 0 ? 'lender' : 'borrower'));
    if (i % 3 === 1) client.send(version.subarray(0, 1 + (i % (version.length - 1))));
    if (i % 3 === 2) client.send(Buffer.concat([version, version, Buffer.alloc(100, 0xff)]));
    client.close();
    if (i % 50 === 0) assertBystanderServed('a flood of connections');
  }
  (await whenFree('lender')).close();
  (await whenFree('borrower')).close();
});

/** A client of the DMA engine whose memory is reached by messages. Its first one is a DMA_READ of a descriptor. */
class Engine {
  readonly client: RawClient;
  readonly dma: RawClient;
  private readonly twin: OwnedFd | null;

  static async connect(twinSocket: boolean): Promise<Engine> {
    for (;;) {
      const client = new RawClient(server.path('borrower'));
      const offer = { ...CLIENT_OFFER, writeMultiple: false, twinSocket };
      const reply = client.call({ command: VFIO_USER_VERSION }, encodeVersion(offer));
      if (reply.error === 0) return new Engine(client, reply.fds[0] ?? null);
      client.close();
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }

  private constructor(client: RawClient, twin: OwnedFd | null) {
    this.client = client;
    this.twin = twin;
    this.dma = twin === null ? client : RawClient.over(twin);
  }

  /** Starts a chain; returns the id of the DMA_READ, which only the test answers. */
  start(): number {
    assert.equal(this.client.outcome({ command: VFIO_USER_DMA_MAP }, dmaMap()), 'ok');
    this.post(7, 4, 6, 0);
    this.post(0, 0x90, 0, 0, 0x10, 0, 0, 0, 0, 0);
    this.post(0, 0x86, 1, 0);
    const read = this.dma.receive();
    assert.equal(read?.command, VFIO_USER_DMA_READ);
    return read!.id;
  }

  post(region: number, offset: number, ...bytes: number[]): void {
    const access = vfio_user_region_access.encode({ offset, region, count: bytes.length });
    this.client.sendMessage(
      { command: VFIO_USER_REGION_WRITE, flags: 0x10 },
      Buffer.concat([access, Uint8Array.from(bytes)]),
    );
  }

  answer(id: number, bytes: number): Buffer {
    return message({ id, command: VFIO_USER_DMA_READ, flags: 1 }, Buffer.alloc(bytes));
  }

  close(): void {
    if (this.twin !== null) this.dma.close();
    this.client.close();
  }
}

test('clients that leave in the middle of what the device does leave it to the next, with and without twin socket', async () => {
  const random = new FuzzRandom(11);
  const unmap = vfio_user_dma_unmap.encode({ argsz: 24, addr: 0x100000, size: 4096 });
  const state = (to: number) => {
    const bytes = Buffer.alloc(16);
    bytes.writeUInt32LE(16, 0);
    bytes.writeUInt32LE(0x20002, 4);
    bytes.writeUInt32LE(to, 8);
    bytes.writeInt32LE(-1, 12);
    return message({ command: VFIO_USER_DEVICE_FEATURE }, bytes);
  };
  const stop = 1;
  const ways: ((engine: Engine, id: number) => void)[] = [
    () => {},
    ({ client }) => void client.sendMessage({ command: VFIO_USER_DMA_UNMAP }, unmap),
    ({ client }) => void client.sendMessage({ command: VFIO_USER_DEVICE_RESET }),
    (engine, id) => void engine.dma.send(engine.answer(id, 16 + 64).subarray(0, 1 + random.below(95))),
    (engine, id) => void engine.dma.send(engine.answer(id, 16 + 63)),
    (engine, id) => {
      engine.client.sendMessage({ command: VFIO_USER_DMA_UNMAP }, unmap);
      engine.dma.send(engine.answer(id, 16 + 64).subarray(0, 1 + random.below(95)));
    },
    // The device stops first and waits for the reply. Meanwhile others send requests.
    ({ client }) => void client.send(state(stop)),
    ({ client }) => void client.send(Buffer.concat([state(stop), message({ command: VFIO_USER_DEVICE_RESET })])),
    ({ client }) => {
      client.send(Buffer.concat([state(stop), message({ command: VFIO_USER_DMA_UNMAP }, unmap), state(2)]));
    },
    (engine, id) => {
      engine.client.send(state(stop));
      engine.dma.send(engine.answer(id, 16 + 64));
    },
    (engine) => {
      if (engine.dma !== engine.client) engine.dma.endSending();
    },
  ];
  for (let round = 0; round < 66; round++) {
    const engine = await Engine.connect(round % 2 === 0);
    ways[round % ways.length](engine, engine.start());
    if (random.chance(2)) await new Promise((resolve) => setTimeout(resolve, random.below(3)));
    engine.close();
    assertBystanderServed(`way ${round % ways.length}`);
  }
  const engine = await Engine.connect(false);
  const id = engine.start();
  assert.equal(engine.client.outcome({ command: VFIO_USER_DMA_UNMAP }, unmap), 'ok', 'the device works as ever');
  engine.dma.send(engine.answer(id, 16 + 64));
  engine.close();
});

test('nothing is left of all of them, and no task of the server failed', async () => {
  bystander.close();
  await server.assertNothingLeft();
  assert.deepEqual(
    server.log.filter((line) => !line.includes('client dropped: E')),
    [],
  );
});
