/**
 * The server's state machine: sequences of messages with descriptors on several connections, all on one thread. After
 * every batch each reply is held against what was asked, and a bystander on another device against what it wrote.
 */
import assert from 'node:assert/strict';
import { ftruncateSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  VFIO_USER_COMMAND_NAMES,
  VFIO_USER_DMA_MAP,
  VFIO_USER_REGION_WRITE,
  VFIO_USER_VERSION,
  vfio_user_dma_map,
} from '../../src/abi/vfio-user.ts';
import { createEventfd } from '../../src/linux/eventfd.ts';
import { OwnedFd } from '../../src/linux/fd.ts';
import { createMemfd } from '../../src/linux/memfd.ts';
import { encodeVersion } from '../../src/vfio-user/version.ts';
import { InProcessServer } from '../vfio-user/in-process.ts';
import { message, RawClient, type RawReply } from '../vfio-user/raw-client.ts';
import { type Coverage, Finding, type FuzzRun } from './fuzzer.ts';
import { type FdKind, randomMessage } from './messages.ts';
import type { Random } from './random.ts';

const MSG_DONTWAIT = 0x40;
const BATCH = 24;
const BYSTANDER_EVERY = 40;
/** Rounds of the server's loop for a batch: an engine that copies gigabytes goes on with the next. */
const TURNS = 40;
const MOST_TURN_MS = 3000;

/** Descriptors to send; what the server gives is added and dropped as it comes. */
class FdPool {
  readonly lent: OwnedFd[] = [];
  private readonly folder = mkdtempSync(join(tmpdir(), 'barter-fuzz-'));
  private readonly own: Record<Exclude<FdKind, 'dma-buf'>, OwnedFd>;

  constructor() {
    const file = new OwnedFd(openSync(join(this.folder, 'file'), 'w+'), 'file');
    ftruncateSync(file.fd, 16 * 4096);
    this.own = {
      memfd: createMemfd('fuzz', 64 * 4096),
      file,
      eventfd: createEventfd('fuzz'),
      null: new OwnedFd(openSync('/dev/null', 'r+'), 'null'),
    };
  }

  fd(kind: FdKind, random: Random): number {
    if (kind !== 'dma-buf') return this.own[kind].fd;
    return this.lent.length === 0 ? this.own.memfd.fd : random.pick(this.lent).fd;
  }

  /** Takes a descriptor that the server sent. */
  keep(fd: OwnedFd): void {
    this.lent.push(fd);
    if (this.lent.length > 32) this.lent.shift()!.close();
  }

  close(): void {
    for (const fd of [...this.lent, ...Object.values(this.own)]) fd.close();
    rmSync(this.folder, { recursive: true });
  }
}

/** One connection and what the server owes it. */
class Connection {
  readonly client: RawClient;
  private readonly owed: { id: number; command: number }[] = [];
  private readonly coverage: Coverage;
  private nextId = 1;
  /** The stream is no longer cut where we think: replies say nothing. */
  private wild = false;
  ended = false;

  constructor(path: string, coverage: Coverage) {
    this.client = new RawClient(path);
    this.coverage = coverage;
  }

  version(random: Random): void {
    const payload = random.chance(20)
      ? Buffer.from('\0\0\0\0{"capabilities":{"max_data_xfer_size":4}}\0')
      : encodeVersion();
    this.ask(VFIO_USER_VERSION, payload, [], 0);
  }

  /** Memory on, bus mastering on, memory to copy from and to: half of it mapped, half of it reached by messages. */
  prepare(random: Random, pool: FdPool): void {
    this.ask(VFIO_USER_REGION_WRITE, Buffer.from([4, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 2, 0, 0, 0, 6, 0]), [], 0);
    const map = (addr: number, fds: number[]) =>
      this.ask(VFIO_USER_DMA_MAP, vfio_user_dma_map.encode({ argsz: 32, flags: 3, addr, size: 32 * 4096 }), fds, 0);
    map(0, [pool.fd('memfd', random)]);
    map(32 * 4096, []);
  }

  send(random: Random, pool: FdPool): void {
    const { command, payload, fds } = randomMessage(random);
    const numbers = fds.map((kind) => pool.fd(kind, random));
    if (random.chance(150)) this.damage(random, command, payload, numbers);
    else this.ask(command, payload, numbers, random.chance(6) ? 0x10 : 0);
  }

  private ask(command: number, payload: Buffer, fds: number[], flags: number): void {
    const id = this.nextId;
    this.nextId = (this.nextId + 1) & 0xffff;
    const bytes = message({ id, command, flags }, payload);
    const sent = this.client.send(bytes, fds, MSG_DONTWAIT);
    // A full socket: the message may be there in part.
    if (sent < 0) this.wild = true;
    else if (flags === 0) this.owed.push({ id, command });
  }

  /** Sizes, types and lengths that lie; too many descriptors. */
  private damage(random: Random, command: number, payload: Buffer, fds: number[]): void {
    this.wild = true;
    const bytes = message({ command, size: random.edge() >>> 0, flags: random.edge() >>> 0 }, payload);
    const many = random.chance(4) && fds.length > 0 ? new Array(20).fill(fds[0]) : fds;
    this.client.send(random.chance(2) ? bytes : bytes.subarray(0, 1 + random.below(bytes.length)), many, MSG_DONTWAIT);
  }

  /** Reads all that there is, and holds it against what was asked. */
  check(random: Random, pool: FdPool): void {
    for (let reply = this.client.tryReceive(); reply !== undefined; reply = this.client.tryReceive()) {
      if (reply === null) {
        this.ended = true;
        this.coverage.hit('server: connections that it ended');
        return;
      }
      for (const fd of reply.fds) pool.keep(fd);
      if (!reply.isReply) this.answer(reply, random);
      else if (!this.wild) this.checkReply(reply);
    }
  }

  private checkReply(reply: RawReply): void {
    const asked = this.owed.shift();
    const name = VFIO_USER_COMMAND_NAMES.get(reply.command) ?? 'unknown command';
    if (asked === undefined || asked.id !== reply.id || asked.command !== reply.command) {
      throw new Finding(`a reply to ${reply.id} (${name}), expected ${asked?.id} (command ${asked?.command})`);
    }
    if (reply.error !== 0 && reply.payload.length !== 0) throw new Finding(`${name}: an error with a payload`);
    this.coverage.hit(`server: ${name} ${reply.error === 0 ? 'ok' : `errno ${reply.error}`}`);
  }

  /** DMA_READ and DMA_WRITE: answered well, wrongly, or not at all. */
  private answer(command: RawReply, random: Random): void {
    this.coverage.hit(`server: ${VFIO_USER_COMMAND_NAMES.get(command.command)} sent to the client`);
    const count = Number(command.payload.readBigUInt64LE(8));
    const data = command.command === 11 ? Buffer.alloc(count) : Buffer.alloc(0);
    const header = { id: command.id, command: command.command, flags: 1 };
    switch (random.below(8)) {
      case 0:
        return;
      case 1:
        this.client.send(message({ ...header, flags: 0x21, error: 14 }), [], MSG_DONTWAIT);
        return;
      case 2:
        this.client.send(message(header, command.payload.subarray(0, random.below(16))), [], MSG_DONTWAIT);
        return;
      default:
        if (
          this.client.send(message(header, Buffer.concat([command.payload.subarray(0, 16), data])), [], MSG_DONTWAIT) <
          0
        )
          this.wild = true;
    }
  }
}

/** Somebody else's client, who must never notice. */
class Bystander {
  private readonly client: RawClient;
  private readonly served: InProcessServer;
  private value = 0;

  constructor(served: InProcessServer) {
    this.served = served;
    this.client = served.ready('bystander');
    this.client.send(message({ command: 10 }, Buffer.from([4, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 2, 0, 0, 0, 6, 0])));
    this.turn();
  }

  check(): void {
    this.value = (this.value + 1) & 0xff;
    const access = (count: number) => Buffer.from([64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, count, 0, 0, 0]);
    this.client.send(message({ id: 1, command: 10 }, Buffer.concat([access(4), Buffer.alloc(4, this.value)])));
    this.client.send(message({ id: 2, command: 9 }, access(4)));
    const write = this.turn();
    const read = this.turn();
    assert.equal(write.error, 0);
    assert.deepEqual(read.payload.subarray(16), Buffer.alloc(4, this.value), 'a bystander read something else');
  }

  close(): void {
    this.client.close();
  }

  private turn(): RawReply {
    for (let i = 0; i < TURNS; i++) {
      const reply = this.client.tryReceive();
      if (reply !== undefined && reply !== null) return reply;
      if (reply === null) throw new Finding('the bystander was dropped');
      this.served.server.loop.turn(0);
    }
    throw new Finding(`the bystander has no answer after ${TURNS} rounds`);
  }
}

/** Sabotage is for the canary: something that the checks must find. */
export function fuzzServer(run: FuzzRun, sabotage: () => void = () => {}): void {
  const { random, coverage } = run;
  const served = new InProcessServer();
  const pool = new FdPool();
  const bystander = new Bystander(served);
  const connections: (Connection | null)[] = [null, null, null];
  const devices = ['lender', 'borrower', 'borrower'];
  try {
    for (let sent = 0, batches = 0; sent < run.messages; batches++) {
      // The third is a second client of the second's device: it may ask for little.
      const i = random.chance(30) ? 2 : random.below(2);
      let connection = connections[i];
      if (connection === null) {
        connection = new Connection(served.path(devices[i]), coverage);
        connections[i] = connection;
        if (!random.chance(50)) connection.version(random);
        if (!random.chance(5)) connection.prepare(random, pool);
      }
      for (let n = random.below(BATCH); n >= 0; n--, sent++) connection.send(random, pool);
      turn(served, random.chance(10) ? 1 : TURNS);
      connection.check(random, pool);
      if (connection.ended || random.chance(60)) {
        connection.client.close();
        connections[i] = null;
        sabotage();
        if (!random.chance(4)) turn(served, TURNS);
      }
      if (batches % BYSTANDER_EVERY === 0) bystander.check();
      checkLog(served);
    }
  } finally {
    for (const connection of connections) connection?.client.close();
    bystander.close();
    pool.close();
    turn(served, 1000);
    served.close();
  }
  checkLog(served);
}

function turn(served: InProcessServer, most: number): void {
  const started = performance.now();
  for (let i = 0; i < most && served.server.loop.turn(0); i++) {}
  const took = performance.now() - started;
  if (took > MOST_TURN_MS) throw new Finding(`the server was busy for ${took.toFixed(0)} ms`);
}

/** A client that is dropped is in the log; a defect is, too. */
function checkLog(served: InProcessServer): void {
  for (const line of served.log.splice(0)) {
    if (!/client dropped: E/.test(line) || line.includes('\n')) throw new Finding(`the server says: ${line}`);
  }
}
