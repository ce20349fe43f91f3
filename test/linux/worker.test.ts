import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addressOf, pinnedBytes } from '../../src/linux/ffi.ts';
import { Message } from '../../src/linux/message.ts';
import { socketPair } from '../../src/linux/socket.ts';
import { startWorker } from '../../src/linux/worker.ts';
import { leavesNoFdsAsync } from './open-fds.ts';

test('a worker that blocks in recvmsg serves while the main thread stays free', async () => {
  // Everything that a first worker opens for good (event loop, loader) is not a leak.
  await new Promise((resolve) => startWorker('./empty-worker', import.meta.url).on('exit', resolve));
  await leavesNoFdsAsync(async () => {
    const [ours, theirs] = socketPair();
    const worker = startWorker('./echo-worker', import.meta.url, { workerData: { fd: theirs.fd } });
    const exit = new Promise((resolve, reject) => worker.on('exit', resolve).on('error', reject));
    // A worker needs the main thread to load its modules. The main thread must not block before the worker is ready.
    await new Promise((resolve) => worker.once('message', resolve));
    let ticks = 0;
    const timer = setInterval(() => ticks++, 5);
    const memory = pinnedBytes(64);
    const message = new Message(1, 0);
    for (let i = 0; i < 100; i++) {
      memory.writeUInt32LE(i);
      message.setIov(0, addressOf(memory), 4, memory);
      assert.equal(message.sendmsg(ours.fd), 4);
      memory.fill(0xff);
      assert.equal(message.recvmsg(ours.fd), 4);
      assert.equal(memory.readUInt32LE(), i);
    }
    await new Promise((resolve) => setTimeout(resolve, 30));
    assert.ok(ticks > 0, 'the main thread was blocked');
    ours.close();
    await exit;
    clearInterval(timer);
    theirs.close();
  });
});
