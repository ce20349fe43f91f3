/** The server of a file system with one file. It answers the process's main thread; all others wait for ever. */
import { readSync, writeSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';

/** enum fuse_opcode, of those that it answers. */
const FUSE_LOOKUP = 1;
const FUSE_FORGET = 2;
const FUSE_GETATTR = 3;
const FUSE_OPEN = 14;
const FUSE_RELEASE = 18;
const FUSE_FLUSH = 25;
const FUSE_INIT = 26;
const FUSE_INTERRUPT = 36;
const ENOSYS = 38;

const { fd, stop, sizeBytes } = workerData as { fd: number; stop: Int32Array; sizeBytes: number };

/** struct fuse_attr. */
function attributes(node: bigint): Buffer {
  const attr = Buffer.alloc(88);
  attr.writeBigUInt64LE(node, 0);
  attr.writeBigUInt64LE(BigInt(sizeBytes), 8);
  attr.writeUInt32LE(node === 1n ? 0o40755 : 0o100666, 60);
  attr.writeUInt32LE(1, 64);
  attr.writeUInt32LE(4096, 80);
  return attr;
}

/** Attributes that the kernel may not keep: it asks for each fstat. */
function answerOf(opcode: number, node: bigint): Buffer | null {
  if (opcode === FUSE_INIT) {
    const init = Buffer.alloc(64);
    init.writeUInt32LE(7, 0);
    init.writeUInt32LE(31, 4);
    init.writeUInt32LE(65536, 20);
    return init;
  }
  if (opcode === FUSE_LOOKUP) {
    const head = Buffer.alloc(40);
    head.writeBigUInt64LE(2n, 0);
    return Buffer.concat([head, attributes(2n)]);
  }
  if (opcode === FUSE_GETATTR) return Buffer.concat([Buffer.alloc(16), attributes(node)]);
  if (opcode === FUSE_OPEN) return Buffer.alloc(16);
  return opcode === FUSE_RELEASE || opcode === FUSE_FLUSH ? Buffer.alloc(0) : null;
}

function serve(request: Buffer): void {
  const opcode = request.readUInt32LE(4);
  if (opcode === FUSE_FORGET || opcode === FUSE_INTERRUPT) return;
  // The kernel tells the thread that asks. The others are those of the server under test.
  if (opcode !== FUSE_INIT && opcode !== FUSE_RELEASE && request.readUInt32LE(32) !== process.pid) return;
  const answer = answerOf(opcode, request.readBigUInt64LE(16));
  const head = Buffer.alloc(16);
  head.writeUInt32LE(16 + (answer?.length ?? 0), 0);
  head.writeInt32LE(answer === null ? -ENOSYS : 0, 4);
  request.copy(head, 8, 8, 16);
  writeSync(fd, Buffer.concat([head, answer ?? Buffer.alloc(0)]));
}

parentPort?.postMessage('ready');
const request = Buffer.alloc(256 * 1024);
while (Atomics.load(stop, 0) === 0) {
  try {
    serve(request.subarray(0, readSync(fd, request)));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // ENOENT: the thread that asked has given up.
    if (code === 'ENODEV') break;
    if (code !== 'EAGAIN' && code !== 'ENOENT' && code !== 'EINTR') throw error;
    Atomics.wait(stop, 0, 0, 1);
  }
}
