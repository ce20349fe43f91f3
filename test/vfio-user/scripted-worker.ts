import { parentPort, workerData } from 'node:worker_threads';
import { Pinned } from '../../src/linux/ffi.ts';
import { Message } from '../../src/linux/message.ts';
import { acceptUnix, listenUnix, setSocketTimeout, socketPair } from '../../src/linux/socket.ts';
import { FrameReader } from '../../src/vfio-user/wire/frame-reader.ts';
import { message } from './raw-client.ts';
import type { ScriptedReply } from './scripted-server.ts';

const { path, replies } = workerData as { path: string; replies: readonly ScriptedReply[] };
const listener = listenUnix(path);
parentPort!.postMessage('ready');
const socket = acceptUnix(listener);
setSocketTimeout(socket, 5000);
const [here, there] = socketPair();
const frames = new FrameReader();
const outgoing = new Message(1, 16);
for (let next = 0; ; ) {
  const frame = frames.next();
  if (frame === null) {
    if (frames.receive(socket.fd, true) <= 0) break;
    continue;
  }
  parentPort!.postMessage({
    command: frame.command,
    payload: Buffer.from(frame.payload).toString('hex'),
    fds: frame.fds.length,
  });
  for (const fd of frame.fds) fd.close();
  if (frame.noReply) continue;
  const reply = replies[next++];
  if (reply === undefined) break;
  const { payload, error = 0, fds = 0 } = reply;
  const flags = error === 0 ? 1 : 0x21;
  const bytes = message({ id: frame.id, command: frame.command, flags, error }, Buffer.from(payload, 'hex'));
  const copy = new Pinned(bytes.length);
  copy.bytes.set(bytes);
  outgoing.setIov(0, copy.address, bytes.length);
  outgoing.sendmsg(socket.fd, 0, new Array(fds).fill(there.fd));
}
for (const fd of [here, there, socket, listener]) fd.close();
