/** Asks a server for the screen of a served device (protocol.ts). Blocks. */
import { fstatSync, readSync } from 'node:fs';
import { ERRNO, Errno, type ErrnoName } from '../../abi/errno.ts';
import type { Picture } from '../../device/screen.ts';
import type { OwnedFd } from '../../linux/fd.ts';
import { check, Pinned, sys } from '../../linux/ffi.ts';
import { Message } from '../../linux/message.ts';
import { connectUnix, setSocketTimeout } from '../../linux/socket.ts';
import { LINE_BYTES, type ScreenReply, type ScreenRequest } from './protocol.ts';

const TIMEOUT_MS = 30_000;

/** The screen of a device whose screen's socket is at `path`. Throws as Screen.picture, and as connect(2). */
export function readScreen(path: string, scanout: number): Picture {
  const { reply, fds } = ask(path, { do: 'picture', scanout });
  try {
    if (!('width' in reply) || fds.length !== 1) throw new Errno('EPROTO', `${path}: an answer without a picture`);
    const { width, height } = reply;
    const pixels = new Uint8Array(width * height * 4);
    if (fstatSync(fds[0].fd).size !== pixels.length) {
      throw new Errno('EPROTO', `${path}: a picture of the wrong size`);
    }
    for (let at = 0; at < pixels.length; ) at += readSync(fds[0].fd, pixels, at, pixels.length - at, at);
    return { width, height, pixels };
  } finally {
    for (const fd of fds) fd.close();
  }
}

/** Lets commands wait in the device (Screen.hold); with an empty list all go on. */
export function holdCommands(path: string, commands: string[]): void {
  ask(path, { do: 'hold', commands });
}

function ask(path: string, request: ScreenRequest): { reply: ScreenReply; fds: OwnedFd[] } {
  const socket = connectUnix(path, TIMEOUT_MS);
  try {
    setSocketTimeout(socket, TIMEOUT_MS);
    const line = new Pinned(LINE_BYTES);
    const bytes = Buffer.from(`${JSON.stringify(request)}\n`);
    if (bytes.length > LINE_BYTES) throw new Errno('EMSGSIZE', 'a request has 4096 bytes at most');
    line.bytes.set(bytes);
    check(sys.send(socket.fd, line.address, bytes.length, 0), () => `send to ${path}`);
    return receive(socket, path);
  } finally {
    socket.close();
  }
}

function receive(socket: OwnedFd, path: string): { reply: ScreenReply; fds: OwnedFd[] } {
  const line = new Pinned(LINE_BYTES);
  const incoming = new Message(1, 1);
  const fds: OwnedFd[] = [];
  let text = '';
  while (!text.endsWith('\n')) {
    incoming.setIov(0, line.address, LINE_BYTES, line.bytes);
    const count = incoming.recvmsg(socket.fd);
    if (count === -ERRNO.EAGAIN) throw new Errno('ETIMEDOUT', `${path}: the server does not answer`);
    if (check(count, () => `receive from ${path}`) === 0) throw new Errno('ECONNRESET', `${path}: no answer`);
    if (incoming.hasFds) fds.push(...incoming.takeFds('picture'));
    text += Buffer.from(line.bytes.subarray(0, count)).toString();
  }
  const reply = JSON.parse(text) as ScreenReply;
  if ('errno' in reply) throw new Errno(reply.errno as ErrnoName, reply.message);
  return { reply, fds };
}
