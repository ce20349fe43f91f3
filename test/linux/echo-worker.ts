import { parentPort, workerData } from 'node:worker_threads';
import { addressOf, pinnedBytes } from '../../src/linux/ffi.ts';
import { Message } from '../../src/linux/message.ts';

/** Echoes everything from the socket `workerData.fd`, until the other side ends. */
const memory = pinnedBytes(64);
const message = new Message(1, 4);
parentPort?.postMessage('ready');
for (;;) {
  message.setIov(0, addressOf(memory), memory.length, memory);
  const length = message.recvmsg(workerData.fd);
  if (length <= 0) break;
  message.setIov(0, addressOf(memory), length, memory);
  message.sendmsg(workerData.fd);
}
