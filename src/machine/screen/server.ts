/** Serves the screen of a device to other processes (protocol.ts), on the serving thread. */
import { writeSync } from 'node:fs';
import { ERRNO, Errno } from '../../abi/errno.ts';
import { EPOLLIN } from '../../abi/poll.ts';
import { MSG_DONTWAIT } from '../../abi/socket.ts';
import type { Picture, Screen } from '../../device/screen.ts';
import { OwnedFd } from '../../linux/fd.ts';
import { Pinned, sys } from '../../linux/ffi.ts';
import { createMemfd } from '../../linux/memfd.ts';
import { Message } from '../../linux/message.ts';
import { tryAccept } from '../../linux/socket.ts';
import type { Task } from '../../task/op.ts';
import { condResched, runner } from '../../task/runner.ts';
import { SocketPath } from '../../vfio-user/server/socket-path.ts';
import { type EventLoop, hungUp } from '../../vfio-user/wire/event-loop.ts';
import { LINE_BYTES, type ScreenReply, type ScreenRequest } from './protocol.ts';

/** A further reader is turned away. */
const MAX_READERS = 8;
/** Other tasks run after this many bytes of a picture. */
const TURN_BYTES = 256 * 1024;

export class ScreenServer {
  private readonly loop: EventLoop;
  private readonly screen: Screen;
  private readonly socket: SocketPath;
  private readonly key: number;
  private readonly readers = new Set<ScreenReader>();

  /** EADDRINUSE when another server listens at `path`. */
  constructor(loop: EventLoop, screen: Screen, path: string) {
    this.loop = loop;
    this.screen = screen;
    this.socket = new SocketPath(path);
    this.key = loop.add(this.socket.listener.fd, EPOLLIN, () => this.accept());
  }

  close(): void {
    this.loop.remove(this.key);
    this.socket.close();
    for (const reader of [...this.readers]) reader.close();
  }

  private accept(): void {
    const fd = tryAccept(this.socket.listener);
    if (fd < 0) return;
    const socket = new OwnedFd(fd, 'reader of a screen');
    if (this.readers.size >= MAX_READERS) {
      socket.close();
      return;
    }
    const reader = new ScreenReader(this.loop, socket, this.screen, () => this.readers.delete(reader));
    this.readers.add(reader);
  }
}

/** One connection. It takes one request at a time. */
class ScreenReader {
  private readonly loop: EventLoop;
  private readonly socket: OwnedFd;
  private readonly screen: Screen;
  private readonly onClose: () => void;
  private readonly key: number;
  private readonly buffer = new Pinned(LINE_BYTES);
  private readonly outgoing = new Message(1, 1);
  private received = 0;
  private isBusy = false;

  constructor(loop: EventLoop, socket: OwnedFd, screen: Screen, onClose: () => void) {
    this.loop = loop;
    this.socket = socket;
    this.screen = screen;
    this.onClose = onClose;
    this.key = loop.add(socket.fd, EPOLLIN, (events) => this.onReady(events));
  }

  close(): void {
    if (!this.socket.isOpen) return;
    this.loop.remove(this.key);
    this.socket.close();
    this.onClose();
  }

  private onReady(events: number): void {
    if ((events & EPOLLIN) !== 0) this.receive();
    else if (hungUp(events)) this.close();
  }

  /** A reader that sends more than one line, or a line that is too long, is disconnected. */
  private receive(): void {
    const room = LINE_BYTES - this.received;
    const count = sys.recv(this.socket.fd, this.buffer.address + this.received, room, MSG_DONTWAIT);
    if (count === -ERRNO.EAGAIN || count === -ERRNO.EINTR) return;
    if (count <= 0 || this.isBusy) {
      this.close();
      return;
    }
    this.received += count;
    const line = Buffer.from(this.buffer.bytes.subarray(0, this.received)).toString();
    if (line.endsWith('\n')) {
      this.received = 0;
      this.isBusy = true;
      runner.start('request for a screen', this.answer(line));
    } else if (this.received === LINE_BYTES) this.close();
  }

  private *answer(line: string): Task {
    try {
      const request = parse(line);
      if (request.do === 'picture') yield* this.sendPicture(yield* this.screen.picture(request.scanout));
      else {
        yield* this.screen.hold(request.commands);
        this.send({ ok: true });
      }
    } catch (error) {
      if (!(error instanceof Errno)) throw error;
      this.send({ errno: error.code, message: error.reason });
    }
    this.isBusy = false;
  }

  private *sendPicture({ width, height, pixels }: Picture): Task {
    const memfd = createMemfd('picture of a screen', pixels.length);
    try {
      for (let at = 0; at < pixels.length; ) {
        at += writeSync(memfd.fd, pixels, at, Math.min(pixels.length - at, TURN_BYTES), at);
        yield* condResched();
      }
      this.send({ width, height }, [memfd.fd]);
    } finally {
      memfd.close();
    }
  }

  /** A reader that does not take its reply is disconnected. */
  private send(reply: ScreenReply, fds: readonly number[] = []): void {
    // It may have left while its picture was read.
    if (!this.socket.isOpen) return;
    const bytes = Buffer.from(`${JSON.stringify(reply)}\n`);
    const line = new Pinned(bytes.length);
    line.bytes.set(bytes);
    this.outgoing.setIov(0, line.address, bytes.length, line.bytes);
    if (this.outgoing.sendmsg(this.socket.fd, MSG_DONTWAIT, fds) !== bytes.length) this.close();
  }
}

function parse(line: string): ScreenRequest {
  let request: ScreenRequest;
  try {
    request = JSON.parse(line);
  } catch {
    throw new Errno('EINVAL', 'the request is not JSON');
  }
  const { do: what, scanout, commands } = Object(request) as { do?: unknown; scanout?: unknown; commands?: unknown };
  const isNumber = typeof scanout === 'number' && Number.isSafeInteger(scanout) && scanout >= 0;
  if (what === 'picture' && isNumber) return { do: 'picture', scanout };
  const areNames = Array.isArray(commands) && commands.every((name) => typeof name === 'string');
  if (what === 'hold' && areNames) return { do: 'hold', commands };
  throw new Errno('EINVAL', 'the request is neither {do: picture, scanout} nor {do: hold, commands}');
}
