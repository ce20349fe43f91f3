/** A relay between a client and a served device, on the server's own loop. It records the messages of both. */
import { EPOLLIN } from '../../src/abi/poll.ts';
import type { OwnedFd } from '../../src/linux/fd.ts';
import { Pinned } from '../../src/linux/ffi.ts';
import { Message } from '../../src/linux/message.ts';
import { acceptUnix, connectUnix, listenUnix } from '../../src/linux/socket.ts';
import type { EventLoop } from '../../src/vfio-user/wire/event-loop.ts';
import type { ReceivedFrame } from '../../src/vfio-user/wire/frame.ts';
import { FrameReader } from '../../src/vfio-user/wire/frame-reader.ts';
import { isPosted, kindOf, type RecordedExchange, type Said } from './transcript.ts';

const HEADER_BYTES = 16;

export class Relay {
  /** The client's commands in order, each with its reply. */
  readonly exchanges: RecordedExchange[] = [];
  /** The time of the last message. */
  lastAtMs = performance.now();
  private readonly loop: EventLoop;
  private readonly listener: OwnedFd;
  private readonly keys: number[] = [];
  private readonly sockets: OwnedFd[] = [];

  constructor(loop: EventLoop, path: string, serverPath: string) {
    this.loop = loop;
    this.listener = listenUnix(path);
    this.keys.push(loop.add(this.listener.fd, EPOLLIN, () => this.accept(serverPath)));
  }

  close(): void {
    for (const key of this.keys.splice(0)) this.loop.remove(key);
    for (const socket of [this.listener, ...this.sockets.splice(0)]) socket.close();
  }

  private accept(serverPath: string): void {
    const client = acceptUnix(this.listener);
    const server = connectUnix(serverPath);
    this.sockets.push(client, server);
    this.forward(client, server, (said) => this.exchanges.push({ command: said, reply: null }));
    this.forward(server, client, (said) => {
      // The server answers in order, and sends nothing on its own unless it does DMA.
      const waiting = this.exchanges.find(({ command, reply }) => reply === null && !isPosted(command.bytes));
      if (waiting === undefined) throw new Error('the server said something that nobody asked for');
      waiting.reply = said;
    });
  }

  private forward(from: OwnedFd, to: OwnedFd, note: (said: Said) => void): void {
    const frames = new FrameReader();
    const outgoing = new Message(1, 16);
    const key = this.loop.add(from.fd, EPOLLIN, () => {
      if (frames.receive(from.fd, false) <= 0) {
        this.loop.remove(key);
        return;
      }
      for (let frame = frames.next(); frame !== null; frame = frames.next()) {
        this.lastAtMs = performance.now();
        const bytes = bytesOf(frame);
        const fds = frame.fds.map((fd) => fd.fd);
        note({ bytes, fds: fds.map(kindOf) });
        const copy = new Pinned(bytes.length);
        copy.bytes.set(bytes);
        outgoing.setIov(0, copy.address, bytes.length);
        outgoing.sendmsg(to.fd, 0, fds);
        for (const fd of frame.fds) fd.close();
      }
    });
    this.keys.push(key);
  }
}

function bytesOf({ view, start, end }: ReceivedFrame): Buffer {
  const at = view.byteOffset + start - HEADER_BYTES;
  return Buffer.from(view.buffer.slice(at, view.byteOffset + end));
}
