/** A server that mostly lies. It takes its turns on the client's thread, while the client waits. */
import { ftruncateSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ERRNO } from '../../src/abi/errno.ts';
import { MSG_DONTWAIT } from '../../src/abi/socket.ts';
import {
  VFIO_USER_DMA_READ,
  VFIO_USER_DMA_WRITE,
  VFIO_USER_VERSION,
  vfio_user_dma_region_access,
} from '../../src/abi/vfio-user.ts';
import { createEventfd } from '../../src/linux/eventfd.ts';
import { closeAll, OwnedFd } from '../../src/linux/fd.ts';
import { Pinned } from '../../src/linux/ffi.ts';
import { createMemfd } from '../../src/linux/memfd.ts';
import { Message } from '../../src/linux/message.ts';
import { pollOne } from '../../src/linux/poll.ts';
import { acceptUnix, listenUnix, socketPair } from '../../src/linux/socket.ts';
import type { Frame } from '../../src/vfio-user/wire/frame.ts';
import { FrameReader } from '../../src/vfio-user/wire/frame-reader.ts';
import { message } from '../vfio-user/raw-client.ts';
import type { Coverage } from './fuzzer.ts';
import { HonestDevice } from './honest-device.ts';
import { chooseLie, type ServerLie, WILD, withOddNumbers } from './lies.ts';
import type { FuzzRandom } from './random.ts';

const POLLIN = 1;

export class LyingServer {
  readonly path: string;
  readonly device = new HonestDevice();
  /** Whether a reply of the present step was not the truth. */
  lied = false;
  /** Whether the stream of replies can no longer be told apart, or has ended. */
  isWild = false;
  /** The choices of the present step. */
  random: FuzzRandom;
  private readonly coverage: Coverage;
  private readonly folder = mkdtempSync(join(tmpdir(), 'barter-lying-'));
  private readonly listener: OwnedFd;
  private readonly outgoing = new Message(1, 64);
  private readonly own: readonly OwnedFd[];
  private readonly file: OwnedFd;
  private socket: OwnedFd | null = null;
  private frames = new FrameReader();
  private readonly owed: (() => void)[] = [];
  private tail: Buffer | null = null;

  constructor(random: FuzzRandom, coverage: Coverage) {
    this.random = random;
    this.coverage = coverage;
    this.path = join(this.folder, 'device.sock');
    this.listener = listenUnix(this.path);
    this.file = new OwnedFd(openSync(join(this.folder, 'lying-file'), 'w+'), 'file');
    ftruncateSync(this.file.fd, 65536);
    const [here, there] = socketPair('lying');
    this.own = [createEventfd('lying'), createMemfd('lying', 4096), this.file, here, there];
  }

  /** Called while the client waits. */
  turn(): void {
    if (this.socket === null) {
      if (pollOne(this.listener.fd, POLLIN, 0) === 0) return;
      this.socket = acceptUnix(this.listener);
    }
    this.sendTail();
    for (;;) {
      const frame = this.frames.next();
      if (frame !== null) this.serve(frame);
      else if (this.socket === null || this.frames.receive(this.socket.fd, false) <= 0) return;
    }
  }

  /** The client has left, or will not come back. */
  hangUp(): void {
    this.frames.close();
    this.frames = new FrameReader();
    this.socket?.close();
    this.socket = null;
    this.owed.length = 0;
    this.tail = null;
    this.isWild = false;
    ftruncateSync(this.file.fd, 65536);
    while (pollOne(this.listener.fd, POLLIN, 0) !== 0) acceptUnix(this.listener).close();
  }

  close(): void {
    this.hangUp();
    for (const fd of this.own) fd.close();
    this.device.close();
    this.listener.close();
    this.outgoing.close();
    rmSync(this.folder, { recursive: true });
  }

  private serve(frame: Frame): void {
    const { id, command, isReply, noReply } = frame;
    const truth = isReply ? null : this.device.answer(command, Buffer.from(frame.payload), this.random, this.file);
    closeAll(frame.fds);
    if (truth === null || noReply) return;
    const lie = this.chooseLie(command);
    if (lie !== null) {
      this.lied = true;
      if (WILD.has(lie)) this.isWild = true;
      this.coverage.outcome('lies', lie);
    }
    const asked = { id, command };
    if (lie === 'late') this.owed.push(() => this.send(message({ ...asked, flags: 1 }, truth.payload), truth.fds));
    if (lie === 'late' || lie === 'silent') return;
    for (const send of this.owed.splice(0)) send();
    this.tell(asked, truth, lie);
  }

  private chooseLie(command: number): ServerLie | null {
    // Most sessions get past VERSION.
    if (command === VFIO_USER_VERSION && !this.random.chance(4)) return null;
    return chooseLie(this.random);
  }

  private tell(
    asked: { id: number; command: number },
    truth: { payload: Buffer; fds: number[] },
    lie: ServerLie | null,
  ): void {
    const { random } = this;
    let { payload, fds } = truth;
    let header: Parameters<typeof message>[0] = { ...asked, flags: 1 };
    switch (lie) {
      case 'leave':
        this.leave();
        return;
      case 'short':
        payload = payload.subarray(0, random.below(payload.length + 1));
        break;
      case 'long':
        payload = Buffer.concat([payload, Buffer.alloc(1 + random.below(100), random.below(256))]);
        break;
      case 'numbers':
        payload = withOddNumbers(random, payload);
        break;
      case 'error':
        header = { ...header, flags: 0x21, error: random.chance(3) ? random.edge() >>> 0 : random.below(134) };
        if (!random.chance(4)) payload = Buffer.alloc(0);
        break;
      case 'more-fds':
        fds = [...fds, ...Array.from({ length: 1 + random.below(20) }, () => random.pick(this.own).fd)];
        break;
      case 'no-fds':
        fds = [];
        break;
      case 'commands':
        this.sendCommands();
        break;
      case 'wrong-id':
        header = { ...header, id: (asked.id + 1 + random.below(65535)) & 0xffff };
        break;
      case 'wrong-command':
        header = { ...header, command: (asked.command + 1 + random.below(20)) & 0xffff };
        break;
      case 'wrong-size':
        header = { ...header, size: random.edge() >>> 0 };
        break;
      case 'wrong-flags':
        header = { ...header, flags: random.edge() >>> 0, error: random.below(200) };
        break;
    }
    const bytes = message(header, payload);
    if (lie === 'cut') {
      this.send(bytes.subarray(0, random.below(bytes.length)), fds);
      this.leave();
    } else if (lie === 'split') {
      const at = 1 + random.below(bytes.length - 1);
      this.send(bytes.subarray(0, at), fds);
      this.tail = bytes.subarray(at);
      // A server that goes on at once: the client needs another turn to get the rest.
      if (random.chance(2)) this.sendTail();
    } else {
      this.send(bytes, fds);
      if (lie === 'twice') this.send(bytes, fds);
    }
  }

  private sendTail(): void {
    const { tail } = this;
    this.tail = null;
    if (tail !== null) this.send(tail, []);
  }

  /** The device's own commands: right, wrong, unknown, with and without a reply. */
  private sendCommands(): void {
    const { random } = this;
    for (let n = random.below(4); n >= 0; n--) {
      const command = random.pick([VFIO_USER_DMA_READ, VFIO_USER_DMA_WRITE, random.below(24)]);
      const count = random.chance(6) ? random.edge() : random.below(5000);
      const data =
        command === VFIO_USER_DMA_WRITE ? Buffer.alloc(random.chance(6) ? random.below(64) : count % 8192) : [];
      const access = vfio_user_dma_region_access.encode({ addr: random.edge(), count });
      const payload = Buffer.concat([access, Buffer.from(data)]);
      const flags = random.chance(3) ? 0x10 : 0;
      const fds = random.chance(8) ? [random.pick(this.own).fd] : [];
      this.send(message({ id: random.below(65536), command, flags }, payload), fds);
    }
  }

  private leave(): void {
    this.isWild = true;
    this.socket?.close();
    this.frames.close();
    this.frames = new FrameReader();
    // A new connection is another session; until `hangUp` none is taken.
    this.socket = null;
  }

  private send(bytes: Uint8Array, fds: readonly number[]): void {
    if (this.socket === null || bytes.length === 0) return;
    this.sendTail();
    if (this.tail !== null) {
      // The client takes nothing now. Descriptors cannot wait here.
      this.tail = Buffer.concat([this.tail, bytes]);
      this.lied = true;
      return;
    }
    const copy = new Pinned(bytes.length);
    copy.bytes.set(bytes);
    for (let at = 0; at < bytes.length; ) {
      this.outgoing.setIov(0, copy.address + at, bytes.length - at);
      const sent = this.outgoing.sendmsg(this.socket.fd, MSG_DONTWAIT, at === 0 ? fds : []);
      if (sent === -ERRNO.EAGAIN) {
        // The client's buffer is full: the rest comes in a later turn.
        this.tail = Buffer.from(bytes.subarray(at));
        return;
      }
      if (sent < 0) return;
      at += sent;
    }
  }
}
