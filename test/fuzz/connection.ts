/** One connection, and the replies that the server owes it. */
import {
  VFIO_USER_COMMAND_NAMES,
  VFIO_USER_DMA_MAP,
  VFIO_USER_DMA_READ,
  VFIO_USER_F_ERROR,
  VFIO_USER_F_NO_REPLY,
  VFIO_USER_F_TYPE_REPLY,
  VFIO_USER_REGION_WRITE,
  VFIO_USER_VERSION,
  vfio_user_dma_map,
} from '../../src/abi/vfio-user.ts';
import { encodeVersion } from '../../src/vfio-user/wire/version.ts';
import { message, RawClient, type RawReply } from '../vfio-user/raw-client.ts';
import { descriptors, type FdPool, MAPPED_PAGES } from './fd-pool.ts';
import { type Coverage, FuzzFinding } from './fuzzer.ts';
import { MEMORY_ON } from './messages.ts';
import { type Asked, Model } from './model.ts';
import type { FuzzRandom } from './random.ts';
import type { FuzzStep } from './steps.ts';

const MSG_DONTWAIT = 0x40;
const EFAULT = 14;
const SMALL_VERSION = Buffer.from('\0\0\0\0{"capabilities":{"max_data_xfer_size":4}}\0');

/** For the canaries: the behaviour of a broken server. */
export type Sabotage = { onReply?: (reply: RawReply) => void };

export class FuzzConnection {
  private readonly client: RawClient;
  private readonly owed: Asked[] = [];
  private readonly coverage: Coverage;
  private readonly sabotage: Sabotage;
  private readonly model: Model;
  private nextId = 1;
  /** True once the frames of the stream are unknown: replies then mean nothing. */
  private wild = false;
  ended = false;

  constructor(path: string, hasMemory: boolean, coverage: Coverage, sabotage: Sabotage) {
    this.client = new RawClient(path);
    this.coverage = coverage;
    this.sabotage = sabotage;
    this.model = new Model(coverage, hasMemory);
  }

  version(small: boolean): void {
    this.ask(VFIO_USER_VERSION, small ? SMALL_VERSION : encodeVersion(), [], false);
  }

  /**
   * Turns memory and bus mastering on, and adds memory for copies. Half of it is mapped, half is reached by messages.
   */
  prepare(pool: FdPool): void {
    this.ask(VFIO_USER_REGION_WRITE, MEMORY_ON, [], false);
    const size = MAPPED_PAGES * 4096;
    const map = (addr: number, fds: number[]) =>
      this.ask(VFIO_USER_DMA_MAP, vfio_user_dma_map.encode({ argsz: 32, flags: 3, addr, size }), fds, false);
    map(0, [pool.fd('memfd')]);
    map(size, []);
  }

  send({ command, payload, fds, noReply }: FuzzStep & { kind: 'message' }, pool: FdPool): void {
    const numbers = fds.map((kind) => pool.fd(kind));
    this.ask(command, payload, numbers, noReply);
  }

  damage({ command, payload, fds, lie }: FuzzStep & { kind: 'damage' }, pool: FdPool): void {
    this.wild = true;
    const bytes = message({ command, size: lie.size, flags: lie.flags }, payload);
    const numbers = fds.flatMap((kind) => new Array(lie.copiesOfFd).fill(pool.fd(kind)));
    const part = lie.cutAt === 0 ? bytes : bytes.subarray(0, lie.cutAt);
    this.client.send(part, numbers, MSG_DONTWAIT);
    this.coverage.count('server: damaged messages');
  }

  /** Reads all replies, and compares them with the requests. */
  check(random: FuzzRandom, pool: FdPool): void {
    for (let reply = this.client.tryReceive(); reply !== undefined; reply = this.client.tryReceive()) {
      if (reply === null) {
        this.ended = true;
        this.coverage.count('server: connections that it ended');
        return;
      }
      for (const fd of reply.fds) pool.keep(fd);
      if (!reply.isReply) this.answer(reply, random);
      else if (!this.wild) this.checkReply(reply);
    }
  }

  close(): void {
    this.client.close();
  }

  private ask(command: number, payload: Buffer, fds: number[], noReply: boolean): void {
    const id = this.nextId;
    this.nextId = (this.nextId + 1) & 0xffff;
    const sent = this.client.send(
      message({ id, command, flags: noReply ? VFIO_USER_F_NO_REPLY : 0 }, payload),
      fds,
      MSG_DONTWAIT,
    );
    const asked: Asked = { id, command, payload, noReply };
    this.coverage.count('server: messages');
    this.coverage.count('server: descriptors sent', fds.length);
    // The socket is full, so part of the message may have been sent.
    if (sent < 0) this.wild = true;
    else this.owed.push(asked);
  }

  private checkReply(reply: RawReply): void {
    this.sabotage.onReply?.(reply);
    let asked = this.owed.shift();
    // The server works in order: it has finished every earlier posted message, whatever its outcome.
    for (; asked?.noReply === true; asked = this.owed.shift()) {
      this.model.posted(asked);
      this.coverage.outcome(nameOf(asked.command), 'posted');
    }
    const name = nameOf(reply.command);
    if (asked === undefined || asked.id !== reply.id || asked.command !== reply.command) {
      throw new FuzzFinding(`a reply to ${reply.id} (${name}), expected ${asked?.id} (command ${asked?.command})`);
    }
    if (reply.error !== 0 && reply.payload.length !== 0) throw new FuzzFinding(`${name}: an error with a payload`);
    this.model.replied(asked, reply);
    this.coverage.outcome(name, reply.error);
  }

  /** Answers DMA_READ and DMA_WRITE correctly, wrongly, or not at all. */
  private answer(command: RawReply, random: FuzzRandom): void {
    this.coverage.outcome(nameOf(command.command), 'sent to the client');
    const count = Number(command.payload.readBigUInt64LE(8));
    const data = command.command === VFIO_USER_DMA_READ ? descriptors(random, count) : Buffer.alloc(0);
    const header = { id: command.id, command: command.command, flags: VFIO_USER_F_TYPE_REPLY };
    let reply: Buffer;
    switch (random.below(12)) {
      case 0:
        return;
      case 1:
        reply = message({ ...header, flags: VFIO_USER_F_TYPE_REPLY | VFIO_USER_F_ERROR, error: EFAULT });
        break;
      case 2:
        reply = message(header, command.payload.subarray(0, random.below(16)));
        break;
      default:
        reply = message(header, Buffer.concat([command.payload.subarray(0, 16), data]));
    }
    if (this.client.send(reply, [], MSG_DONTWAIT) < 0) this.wild = true;
  }
}

function nameOf(command: number): string {
  return VFIO_USER_COMMAND_NAMES.get(command) ?? 'unknown command';
}
