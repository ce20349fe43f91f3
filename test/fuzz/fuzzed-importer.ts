/** An importer that sends anything through a lent dma-buf, and answers INVALIDATE correctly, wrongly or never. */
import {
  DMA_BUF_SOCKET_ADD_FENCE,
  DMA_BUF_SOCKET_ATTACH,
  DMA_BUF_SOCKET_COMMAND_NAMES,
  DMA_BUF_SOCKET_DETACH,
  DMA_BUF_SOCKET_INVALIDATE,
  DMA_BUF_SOCKET_MAP,
  DMA_BUF_SOCKET_QUERY,
  DMA_BUF_SOCKET_RESTORE,
  DMA_BUF_SOCKET_SET_NAME,
  DMA_BUF_SOCKET_SIGNAL_FENCE,
  DMA_BUF_SOCKET_UNMAP,
  DMA_BUF_SOCKET_WAIT,
} from '../../src/abi/dma-buf-socket.ts';
import type { OwnedFd } from '../../src/linux/fd.ts';
import { message } from '../vfio-user/raw-client.ts';
import { RawImporter, type RawPacket, sendPacket } from '../vfio-user/raw-importer.ts';
import { type Coverage, FuzzFinding } from './fuzzer.ts';
import type { FuzzRandom } from './random.ts';

const REQUESTS: readonly [command: number, words: number][] = [
  [DMA_BUF_SOCKET_QUERY, 0],
  [DMA_BUF_SOCKET_SET_NAME, 8],
  [DMA_BUF_SOCKET_ATTACH, 2],
  [DMA_BUF_SOCKET_ATTACH, 2],
  [DMA_BUF_SOCKET_DETACH, 2],
  [DMA_BUF_SOCKET_MAP, 2],
  [DMA_BUF_SOCKET_MAP, 2],
  [DMA_BUF_SOCKET_MAP, 2],
  [DMA_BUF_SOCKET_UNMAP, 2],
  [DMA_BUF_SOCKET_ADD_FENCE, 2],
  [DMA_BUF_SOCKET_ADD_FENCE, 2],
  [DMA_BUF_SOCKET_SIGNAL_FENCE, 2],
  [DMA_BUF_SOCKET_WAIT, 2],
];

const MAKES = new Set<number>([DMA_BUF_SOCKET_ATTACH, DMA_BUF_SOCKET_MAP, DMA_BUF_SOCKET_ADD_FENCE]);
/** For each command: the command that makes the id with which its request begins. */
const KINDS = new Map<number, number>([
  [DMA_BUF_SOCKET_DETACH, DMA_BUF_SOCKET_ATTACH],
  [DMA_BUF_SOCKET_MAP, DMA_BUF_SOCKET_ATTACH],
  [DMA_BUF_SOCKET_ADD_FENCE, DMA_BUF_SOCKET_ATTACH],
  [DMA_BUF_SOCKET_UNMAP, DMA_BUF_SOCKET_MAP],
  [DMA_BUF_SOCKET_SIGNAL_FENCE, DMA_BUF_SOCKET_ADD_FENCE],
]);
const SECOND_WORD = new Set<number>([
  DMA_BUF_SOCKET_MAP,
  DMA_BUF_SOCKET_ADD_FENCE,
  DMA_BUF_SOCKET_SIGNAL_FENCE,
  DMA_BUF_SOCKET_WAIT,
]);

/** One session, and the messages that the exporter owes it. */
export class FuzzedImporter {
  private readonly raw: RawImporter;
  private readonly coverage: Coverage;
  private readonly owed = new Map<number, number>([[1, 1]]);
  private readonly ids: { kind: number; id: number }[] = [];
  private nextId = 2;
  /** True once it sent an invalid message: the session may end, and its replies mean nothing. */
  private wild = false;
  ended = false;

  constructor(buffer: OwnedFd, coverage: Coverage) {
    this.raw = new RawImporter(buffer);
    this.coverage = coverage;
  }

  send(random: FuzzRandom, memfd: OwnedFd): void {
    if (random.chance(200)) {
      this.wild = true;
      const bytes = message(
        { command: random.below(16), size: random.edge() >>> 0, flags: random.edge() >>> 0 },
        Buffer.alloc(8),
      );
      sendPacket(this.raw.socket.fd, bytes.subarray(0, 1 + random.below(bytes.length)));
      return;
    }
    const [command, words] = random.pick(REQUESTS);
    const payload = this.payload(random, command, words);
    const cut = random.chance(60) ? payload.subarray(0, random.below(payload.length + 1)) : payload;
    const isQuiet = random.chance(15);
    const id = this.takeId();
    const fds = random.chance(60) ? [memfd.fd] : [];
    if (this.raw.send({ id, command, flags: isQuiet ? 0x10 : 0 }, cut, fds) > 0 && !isQuiet) this.owed.set(id, command);
  }

  /** Mostly existing ids of the right kind. */
  private payload(random: FuzzRandom, command: number, words: number): Buffer {
    const payload = Buffer.alloc(4 * words);
    const kind = KINDS.get(command);
    const known = this.ids.filter((id) => id.kind === kind);
    if (kind !== undefined) {
      const guess = random.chance(20) ? random.edge() >>> 0 : 1 + random.below(24);
      payload.writeUInt32LE(known.length > 0 && !random.chance(8) ? random.pick(known).id : guess, 0);
    }
    if (command === DMA_BUF_SOCKET_WAIT) payload.writeUInt32LE(random.pick([1, 4, 5, 0, 2]), 0);
    if (SECOND_WORD.has(command)) payload.writeUInt32LE(random.chance(30) ? random.edge() >>> 0 : random.below(4), 4);
    return payload;
  }

  /** Reads all messages, answers some, and compares replies with the requests. */
  check(random: FuzzRandom): void {
    for (let packet = this.raw.receive(false); packet !== undefined; packet = this.raw.receive(false)) {
      if (packet === null) {
        this.ended = true;
        this.coverage.count('importers: sessions that ended');
        return;
      }
      for (const fd of packet.fds) fd.close();
      if (packet.isReply) this.checkReply(packet);
      else this.answer(packet, random);
    }
  }

  close(): void {
    this.raw.close();
  }

  private takeId(): number {
    do this.nextId = (this.nextId + 1) & 0xffff;
    while (this.owed.has(this.nextId));
    return this.nextId;
  }

  private checkReply({ id, command, error, payload }: RawPacket): void {
    const name = DMA_BUF_SOCKET_COMMAND_NAMES.get(command) ?? `command ${command}`;
    if (!this.wild && this.owed.get(id) !== command) {
      throw new FuzzFinding(`a reply to ${id} (${name}), which asked for command ${this.owed.get(id)}`);
    }
    this.owed.delete(id);
    if (error === 0 && MAKES.has(command)) this.ids.push({ kind: command, id: payload.readUInt32LE() });
    if (this.ids.length > 40) this.ids.shift();
    if (error !== 0 && payload.length !== 0) throw new FuzzFinding(`${name}: an error with a payload`);
    this.coverage.outcome(name, error);
  }

  private answer({ id, command }: RawPacket, random: FuzzRandom): void {
    this.coverage.count(`importers: told ${DMA_BUF_SOCKET_COMMAND_NAMES.get(command)}`);
    if (command !== DMA_BUF_SOCKET_INVALIDATE && command !== DMA_BUF_SOCKET_RESTORE) {
      throw new FuzzFinding(`the exporter asks for command ${command}`);
    }
    if (command === DMA_BUF_SOCKET_RESTORE || random.chance(30)) return;
    const wrong = random.chance(30);
    if (wrong) this.wild = true;
    const header = { id: wrong ? random.below(20) : id, command, flags: 1 };
    this.raw.send(wrong && random.chance(2) ? { ...header, flags: 0x21, error: 5 } : header);
  }
}
