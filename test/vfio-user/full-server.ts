/** A server on the test's thread whose clients and importers are at their limits, and one client that is not. */
import {
  DMA_BUF_SOCKET_ADD_FENCE,
  DMA_BUF_SOCKET_ATTACH,
  DMA_BUF_SOCKET_FOREVER,
  DMA_BUF_SOCKET_MAP,
  DMA_BUF_SOCKET_UNMAP,
  DMA_BUF_SOCKET_WAIT,
  dma_buf_socket_fence,
  dma_buf_socket_id,
  dma_buf_socket_map,
  dma_buf_socket_wait,
} from '../../src/abi/dma-buf-socket.ts';
import {
  VFIO_USER_DEVICE_FEATURE,
  VFIO_USER_DMA_MAP,
  VFIO_USER_F_NO_REPLY,
  VFIO_USER_REGION_READ,
  VFIO_USER_REGION_WRITE,
  vfio_user_dma_map,
  vfio_user_region_access,
} from '../../src/abi/vfio-user.ts';
import type { OwnedFd } from '../../src/linux/fd.ts';
import { createMemfd } from '../../src/linux/memfd.ts';
import { parseMachine } from '../../src/machine/load.ts';
import type { MachineDescription } from '../../src/machine/schema.ts';
import { IMPORTER_LIMITS, IMPORTER_TIMEOUT_MS } from '../../src/vfio-user/dma-buf/limits.ts';
import { Counters } from '../../src/vfio-user/monitor/counters.ts';
import { EventRing } from '../../src/vfio-user/monitor/event-ring.ts';
import { MessageRing } from '../../src/vfio-user/monitor/message-ring.ts';
import { Monitor } from '../../src/vfio-user/monitor/monitor.ts';
import { LIMITS } from '../../src/vfio-user/wire/frame.ts';
import { InProcessServer } from './in-process.ts';
import { exportArgument } from './lent.ts';
import { message, type RawClient } from './raw-client.ts';
import { OPEN, RawImporter } from './raw-importer.ts';

const CONFIG = 7;
/** Bytes that are sent at once. */
const CHUNK_BYTES = 65_536;
/** Slots of a switch. */
const SLOTS = 32;
/** How far the clock goes on when the server has nothing to do. */
const IDLE_MS = 5;
export const PAGE = 4096;
/** Where the client of many regions has them. */
export const REGIONS_AT = 0x10_0000;

/** A machine of devices with the given YAML. Each has a slot of its own in one of the switches. */
export function machineOf(devices: Readonly<Record<string, string>>): MachineDescription {
  const names = Object.keys(devices);
  const ports = names.flatMap((name, i) => {
    const number = Math.floor(i / SLOTS);
    const root = `  - { name: root-${number}, kind: root }\n  - { name: up-${number}, kind: upstream, parent: root-${number} }`;
    const slot = `  - { name: slot-${name}, kind: downstream, parent: up-${number} }`;
    return i % SLOTS === 0 ? [root, slot] : [slot];
  });
  const each = names.map((name) => `  - { name: ${name}, port: slot-${name}, ${devices[name]} }`);
  return parseMachine(`machine: full\nports:\n${ports.join('\n')}\ndevices:\n${each.join('\n')}\n`, 'full.yaml');
}

export const noReply = (command: number, payload?: Uint8Array) =>
  message({ command, flags: VFIO_USER_F_NO_REPLY }, payload);

export function accessOf(region: number, offset: number, count: number, data = new Uint8Array(0)): Buffer {
  return Buffer.concat([vfio_user_region_access.encode({ offset, region, count }), data]);
}

/** The write that switches memory on or off, with or without a reply. */
export function memoryWrite(on: boolean, flags = 0): Buffer {
  return message({ command: VFIO_USER_REGION_WRITE, flags }, accessOf(CONFIG, 4, 2, Buffer.from([on ? 6 : 4, 0])));
}

/** The bystander's request. */
const READ_CONFIG = message({ command: VFIO_USER_REGION_READ }, accessOf(CONFIG, 0, 4));

/**
 * The clock of this process while a FullServer is there: the processor's time, and the time that was skipped because
 * there was nothing to do. Other processes of a busy machine do not lengthen it.
 */
class WorkClock {
  private readonly realNow = performance.now;
  private readonly startMs = performance.now() - workMs();
  private skippedMs = 0;

  constructor() {
    performance.now = () => this.startMs + workMs() + this.skippedMs;
  }

  skip(ms: number): void {
    this.skippedMs += ms;
  }

  stop(): void {
    performance.now = this.realNow;
  }
}

function workMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** Milliseconds of the clock since the last `take`. */
export interface Figures {
  longestTurn: number;
  /** The most that the bystander waited for an answer. */
  longestWait: number;
  all: number;
}

const NO_FIGURES: Figures = { longestTurn: 0, longestWait: 0, all: 0 };

/** A server that is watched as one with a page and a capture. */
export class FullServer extends InProcessServer {
  private readonly clock = new WorkClock();
  private readonly bystander: RawClient;
  private figures = NO_FIGURES;
  /** Work of the server since the bystander asked. */
  private waited = 0;

  constructor(machine: MachineDescription) {
    const memory = {
      counters: new Counters(machine.devices.length).memory,
      messages: new MessageRing().memory,
      events: new EventRing().memory,
    };
    super(machine, IMPORTER_TIMEOUT_MS, () => {}, new Monitor(memory));
    this.bystander = this.ready('bystander');
    this.bystander.send(READ_CONFIG);
  }

  /** Runs one round of the loop and measures it. The bystander asks again as soon as it has its answer. */
  turn(): void {
    const start = performance.now();
    const wasIdle = !this.server.loop.turn(0);
    const ms = performance.now() - start;
    const { longestTurn, longestWait, all } = this.figures;
    this.waited += ms;
    this.figures = {
      longestTurn: Math.max(longestTurn, ms),
      longestWait: Math.max(longestWait, this.waited),
      all: all + ms,
    };
    if (this.bystander.tryReceive() !== undefined) {
      this.waited = 0;
      this.bystander.send(READ_CONFIG);
    }
    if (wasIdle) this.clock.skip(IDLE_MS);
  }

  /** The figures since the last call. */
  take(): Figures {
    const taken = this.figures;
    this.figures = NO_FIGURES;
    return taken;
  }

  override close(): void {
    this.bystander.close();
    this.pump();
    super.close();
    this.clock.stop();
  }
}

/** A client that sends messages again and again, for as long as its socket takes them. */
export class Flood {
  private readonly client: RawClient;
  private readonly bytes: Buffer;
  private at = 0;

  constructor(client: RawClient, messages: readonly Buffer[]) {
    this.client = client;
    this.bytes = Buffer.concat(messages);
  }

  /** Fills the socket. */
  pour(): void {
    for (;;) {
      const part = this.bytes.subarray(this.at, this.at + CHUNK_BYTES);
      const sent = this.client.sendSome(part);
      this.at = (this.at + sent) % this.bytes.length;
      if (sent < part.length) return;
    }
  }

  /** Sends the rest of the last messages, while the server works. */
  end(served: FullServer): void {
    while (this.at !== 0) {
      const sent = this.client.sendSome(this.bytes.subarray(this.at, this.at + CHUNK_BYTES));
      this.at = (this.at + sent) % this.bytes.length;
      served.turn();
    }
  }
}

/** Sends each message. The server works whenever the socket is full, and at the end. */
export function sendAll(served: InProcessServer, client: RawClient, messages: Iterable<Buffer>): void {
  for (const bytes of messages) {
    for (let at = 0; at < bytes.length; ) {
      const sent = client.sendSome(bytes.subarray(at, at + CHUNK_BYTES));
      if (sent === 0) served.server.loop.turn(0);
      at += sent;
    }
  }
  served.pump();
}

/** Maps as many regions as a client may have. Their memory is reached by messages. */
export function mapAllRegions(served: InProcessServer, client: RawClient): void {
  function* maps(): Generator<Buffer> {
    for (let i = 0; i < LIMITS.maxDmaMaps; i++) {
      const region = { argsz: 32, flags: 3, addr: REGIONS_AT + i * PAGE, size: PAGE };
      yield noReply(VFIO_USER_DMA_MAP, vfio_user_dma_map.encode(region));
    }
  }
  sendAll(served, client, maps());
}

/** Maps as many files as a client may have. */
export function mapAllFiles(served: InProcessServer, client: RawClient): void {
  for (let i = 0; i < LIMITS.maxFileMappings; i++) {
    const file = createMemfd('test', PAGE);
    const region = { argsz: 32, flags: 3, addr: REGIONS_AT + i * PAGE, size: PAGE };
    client.send(noReply(VFIO_USER_DMA_MAP, vfio_user_dma_map.encode(region)), [file.fd]);
    file.close();
    served.pump();
  }
}

/** Exports `most` buffers of `count` ranges, or as many as the device has room for. */
export function exportAll(
  served: InProcessServer,
  client: RawClient,
  most: number,
  count = Math.floor(LIMITS.maxExportRanges / LIMITS.maxExports),
): OwnedFd[] {
  const ranges = Array.from({ length: count }, (_, i): [number, number] => [PAGE * (i % 256), PAGE]);
  const request = message({ command: VFIO_USER_DEVICE_FEATURE }, exportArgument({ ranges }));
  const lent: OwnedFd[] = [];
  while (lent.length < most) {
    client.send(request);
    served.pump();
    const reply = client.tryReceive()!;
    if (reply.error !== 0) break;
    lent.push(reply.fds[0]);
  }
  return lent;
}

const { maxSessions, maxAttachmentsOfBuffer, maxFencesOfBuffer, maxRequests } = IMPORTER_LIMITS;

/** An importer that takes its full share of a buffer's limits, and never answers. */
export function fillSession(served: InProcessServer, buffer: OwnedFd): RawImporter {
  const session = new RawImporter(buffer, OPEN);
  served.pump();
  const attach = dma_buf_socket_id.encode({});
  for (let i = 0; i < maxAttachmentsOfBuffer / maxSessions; i++) {
    session.send({ command: DMA_BUF_SOCKET_ATTACH }, attach);
  }
  // The first id of a session is 1.
  const fence = dma_buf_socket_fence.encode({ attachment: 1, usage: 1 });
  for (let i = 0; i < maxFencesOfBuffer / maxSessions; i++) session.send({ command: DMA_BUF_SOCKET_ADD_FENCE }, fence);
  const map = dma_buf_socket_map.encode({ attachment: 1, flags: 3 });
  for (let i = 0; i < 8; i++) session.send({ command: DMA_BUF_SOCKET_MAP }, map);
  served.pump();
  const wait = dma_buf_socket_wait.encode({ events: 4, timeout_ms: DMA_BUF_SOCKET_FOREVER });
  for (let i = 1; i < maxRequests; i++) session.send({ id: i, command: DMA_BUF_SOCKET_WAIT }, wait);
  served.pump();
  return session;
}

/** A session that maps and unmaps for as long as its socket takes requests, and reads no reply before the next time. */
export class MappingSession {
  private readonly session: RawImporter;
  /** The id of the next mapping. */
  private next = 1;
  private isMapped = false;

  constructor(session: RawImporter) {
    this.session = session;
  }

  pour(): void {
    for (let packet = this.session.receive(false); packet; packet = this.session.receive(false)) {
      for (const fd of packet.fds) fd.close();
    }
    const map = dma_buf_socket_map.encode({ attachment: 1, flags: 3 });
    for (;;) {
      const id = dma_buf_socket_id.encode({ id: this.next });
      const sent = this.isMapped
        ? this.session.send({ command: DMA_BUF_SOCKET_UNMAP }, id)
        : this.session.send({ command: DMA_BUF_SOCKET_MAP }, map);
      if (sent < 0) return;
      if (this.isMapped) this.next += 1;
      this.isMapped = !this.isMapped;
    }
  }

  close(): void {
    this.session.close();
  }
}

/** A session with an attachment. */
export function mappingSession(served: InProcessServer, buffer: OwnedFd): MappingSession {
  const session = new RawImporter(buffer, OPEN);
  served.pump();
  session.send({ command: DMA_BUF_SOCKET_ATTACH }, dma_buf_socket_id.encode({}));
  served.pump();
  return new MappingSession(session);
}
