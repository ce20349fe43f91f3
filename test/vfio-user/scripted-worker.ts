/** Plays one script after the other: listens, says so, serves one client, and sends what it received. */
import { parentPort } from 'node:worker_threads';
import { closeAll } from '../../src/linux/fd.ts';
import { Pinned } from '../../src/linux/ffi.ts';
import { Message } from '../../src/linux/message.ts';
import { acceptUnix, listenUnix, setSocketTimeout, socketPair } from '../../src/linux/socket.ts';
import type { Frame } from '../../src/vfio-user/wire/frame.ts';
import { FrameReader } from '../../src/vfio-user/wire/frame-reader.ts';
import { message } from './raw-client.ts';
import type { ScriptedReply, SeenMessage } from './scripted-server.ts';

const outgoing = new Message(1, 253);
const [, there] = socketPair();

function send(socket: number, bytes: Uint8Array, fds: readonly number[] = []): void {
  const copy = new Pinned(bytes.length);
  copy.bytes.set(bytes);
  outgoing.setIov(0, copy.address, bytes.length);
  outgoing.sendmsg(socket, 0, fds);
}

function pause(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

/** Returns false where the script ends the connection. */
function reply(socket: number, asked: Pick<Frame, 'id' | 'command'>, scripted: ScriptedReply): boolean {
  const { payload, error = 0, fds = 0, fdNumbers = [], before = [] } = scripted;
  for (const each of before) send(socket, Buffer.from(each, 'hex'));
  const header = {
    id: (asked.id + (scripted.idOffset ?? 0)) & 0xffff,
    command: scripted.command ?? asked.command,
    flags: error === 0 ? 1 : 0x21,
    error,
    ...(scripted.size === undefined ? {} : { size: scripted.size }),
  };
  const bytes = message(header, Buffer.from(payload, 'hex'));
  const numbers = [...new Array<number>(fds).fill(there.fd), ...fdNumbers];
  if (scripted.cutAt !== undefined) {
    if (scripted.cutAt > 0) send(socket, bytes.subarray(0, scripted.cutAt), numbers);
    return false;
  }
  const half = scripted.halfAt ?? bytes.length;
  send(socket, bytes.subarray(0, half), numbers);
  if (half < bytes.length) {
    pause(scripted.pauseMs ?? 0);
    send(socket, bytes.subarray(half));
  }
  return true;
}

function serve(socket: number, frames: FrameReader, replies: readonly ScriptedReply[]): SeenMessage[] {
  const seen: SeenMessage[] = [];
  /** Late replies, as they will be sent. */
  const late: (() => void)[] = [];
  for (let next = 0; ; ) {
    const frame = frames.next();
    if (frame === null) {
      if (frames.receive(socket, true) <= 0) return seen;
      continue;
    }
    const { id, command, isReply, noReply, fds } = frame;
    seen.push({ command, payload: Buffer.from(frame.payload).toString('hex'), fds: fds.length, isReply });
    closeAll(fds);
    if (noReply || isReply) continue;
    const scripted = replies[next++];
    if (scripted === undefined) return seen;
    if (scripted.isLate === true) {
      late.push(() => reply(socket, { id, command }, scripted));
      continue;
    }
    for (const each of late.splice(0)) each();
    if (!reply(socket, frame, scripted)) return seen;
  }
}

function play(path: string, replies: readonly ScriptedReply[]): SeenMessage[] {
  const listener = listenUnix(path);
  parentPort!.postMessage('listens');
  const socket = acceptUnix(listener);
  const frames = new FrameReader();
  try {
    setSocketTimeout(socket, 5000);
    return serve(socket.fd, frames, replies);
  } finally {
    frames.close();
    socket.close();
    listener.close();
  }
}

parentPort!.on('message', ({ path, replies }: { path: string; replies: readonly ScriptedReply[] }) => {
  try {
    parentPort!.postMessage(play(path, replies));
  } catch (error) {
    parentPort!.postMessage(String(error));
  }
});
parentPort!.postMessage('ready');
