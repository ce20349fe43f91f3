/** The asynchronous client: right answers, while Node's event loop goes on. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { getEventListeners } from 'node:events';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { EPOLLIN } from '../../src/abi/poll.ts';
import { VFIO_USER_DEVICE_GET_INFO, VFIO_USER_DMA_READ, vfio_user_device_info } from '../../src/abi/vfio-user.ts';
import { createEventfd, signalEventfd } from '../../src/linux/eventfd.ts';
import { loopPoll } from '../../src/linux/loop-poll.ts';
import { SharedMemory } from '../../src/linux/shared-memory.ts';
import { socketPair } from '../../src/linux/socket.ts';
import { AsyncChannel } from '../../src/vfio-user/client/async-channel.ts';
import { AsyncVfioUserClient, whenReadable } from '../../src/vfio-user/client/async-client.ts';
import { LostError } from '../../src/vfio-user/client/lost.ts';
import { migrationState } from '../../src/vfio-user/client/migration.ts';
import { openFds } from '../linux/open-fds.ts';
import { ClogQueues } from './deaf-peer.ts';
import { InProcessServer } from './in-process.ts';
import { message, RawClient } from './raw-client.ts';
import { version, withScript } from './scripted-server.ts';
import { withServer } from './served.ts';

const server = await withServer();
const FULL = { max_msg_fds: 16, write_multiple: true };
const info = (flags: number) => ({
  payload: vfio_user_device_info.encode({ argsz: 16, flags, num_regions: 9, num_irqs: 5 }).toString('hex'),
});

test('the commands work as with the blocking client, several at once, and two devices at once', async () => {
  const before = openFds().length;
  const lender = await AsyncVfioUserClient.connect(server.path('lender'));
  const bystander = await AsyncVfioUserClient.connect(server.path('bystander'));
  const bytes = Buffer.from('barter'.repeat(20_000));
  await lender.writeRegion(0, 64, bytes);
  const [back, device, other, state] = await Promise.all([
    lender.readRegion(0, 64, bytes.length),
    lender.info(),
    bystander.readRegion(7, 0, 4),
    lender.run(migrationState()),
  ]);
  assert.ok(back.equals(bytes));
  assert.deepEqual([device.numRegions, other.length, state], [9, 4, 2]);
  const map = await lender.mapRegion(0, 0, 4096);
  const seen = Buffer.alloc(6);
  map.read(64, seen);
  assert.equal(seen.toString(), 'barter');
  map.close();
  const memory = new SharedMemory(4096);
  const iova = 2n ** 51n;
  await lender.dmaMap({ iova, sizeBytes: 4096n, fd: memory.memfd.fd, write: false });
  await assert.rejects(lender.dmaMap({ iova, sizeBytes: 4096n }), /EEXIST/);
  await assert.rejects(lender.dmaMap({ iova: 2n ** 63n, sizeBytes: 4096n }), /EOVERFLOW/);
  assert.equal(await lender.dmaUnmap(iova, 4096n), 4096);
  memory.close();
  const event = createEventfd();
  await lender.setEventfds('MSIX', [event.fd]);
  await lender.disableIrqs('MSIX');
  assert.equal((await lender.irqInfo('MSIX')).count, 4);
  event.close();
  lender.close();
  await bystander[Symbol.asyncDispose]();
  await assert.rejects(lender.info(), /ECANCELED/);
  while (openFds().length !== before) await sleep(1);
});

test('timers, an abort and the reply of a second call come while a call waits; late replies are dropped', async () => {
  // So many descriptors cannot be taken, which is not an error of another call.
  const late = [{ ...info(1), isLate: true, fds: 17 }, { ...info(2), isLate: true }, info(5)];
  await withScript([version(FULL), ...late], async (path) => {
    const client = await AsyncVfioUserClient.connect(path, { timeoutMs: 200 });
    let ticks = 0;
    const timer = setInterval(() => ticks++, 5);
    const abort = new AbortController();
    const first = client.info({ signal: abort.signal });
    setTimeout(() => abort.abort(), 30);
    await assert.rejects(first, { name: 'AbortError' });
    await assert.rejects(client.info(), /ETIMEDOUT.*silent/);
    assert.ok(ticks > 1);
    clearInterval(timer);
    const { signal } = new AbortController();
    assert.equal((await client.info({ signal })).flags, 5);
    for (const each of [signal, abort.signal]) {
      assert.deepEqual(getEventListeners(each, 'abort'), [], 'a call that is over listens no more');
    }
    client.close();
  });
});

test('the end of the server ends every call that waits, and later ones, with the same reason', async () => {
  await withScript([version(FULL), { payload: '', cutAt: 0 }], async (path) => {
    const client = await AsyncVfioUserClient.connect(path);
    const calls = await Promise.allSettled([client.info(), client.reset(), client.readRegion(0, 0, 4)]);
    for (const call of calls) assert.match(String(call.status === 'rejected' && call.reason), /ECONNRESET|EPIPE/);
    await assert.rejects(client.info(), /ECONNRESET|EPIPE/);
    client.close();
  });
});

test('calls that cannot be sent are refused, and the server owes them nothing', async () => {
  const served = new InProcessServer();
  const pumping = setInterval(() => served.pump(), 1);
  const client = await AsyncVfioUserClient.connect(served.path('lender'));
  clearInterval(pumping);
  // The server reads nothing now: the socket is full, then the queue behind it.
  const sent = [client.writeRegion(0, 0, Buffer.alloc(900_000)), ...Array.from({ length: 256 }, () => client.info())];
  for (let i = 0; i < 1100; i++) await assert.rejects(client.info(), /ENOBUFS: 256 messages/);
  const reading = setInterval(() => served.pump(), 1);
  const results = await Promise.allSettled(sent);
  assert.ok(results.filter(({ status }) => status === 'fulfilled').length >= 256);
  assert.equal((await client.info()).numRegions, 9);
  client.close();
  clearInterval(reading);
  served.close();
});

test('a message that is sent in part, and whose rest cannot wait, ends the connection with the reason', async () => {
  const served = new InProcessServer();
  const pumping = setInterval(() => served.pump(), 1);
  const client = await AsyncVfioUserClient.connect(served.path('lender'));
  clearInterval(pumping);
  const full = new ClogQueues();
  await assert.rejects(client.postWrite(0, 0, Buffer.alloc(1_000_000)), /ENOBUFS.*bytes are not read/);
  full.close();
  await assert.rejects(client.info(), { constructor: LostError, code: 'ENOBUFS' });
  client.close();
  served.close();
});

test('a descriptor that is closed is refused, and the connection stays', async () => {
  const client = await AsyncVfioUserClient.connect(server.path('lender'));
  await assert.rejects(client.setEventfds('MSIX', [1 << 20]), /EBADF/);
  assert.equal((await client.info()).numRegions, 9);
  client.close();
});

test('descriptors behind the message that ends a connection are closed', { timeout: 60_000 }, async () => {
  // Without it, the poll of Node's loop would close its own descriptors some time after the last client.
  const keeper = createEventfd('keeper');
  const key = loopPoll.add(keeper.fd, EPOLLIN, () => {});
  const before = openFds();
  const [ours, theirs] = socketPair('a server');
  const channel = new AsyncChannel(ours, 'a server', 10_000);
  const call = channel.request({ command: VFIO_USER_DEVICE_GET_INFO, payload: Buffer.alloc(16), takesFds: true }, {});
  const server = new RawClient(theirs);
  const lent = createEventfd('lent');
  server.send(message({ command: VFIO_USER_DMA_READ }, Buffer.alloc(16)));
  server.send(message({ command: VFIO_USER_DEVICE_GET_INFO, flags: 1 }, Buffer.alloc(16)), [lent.fd]);
  lent.close();
  // The answer to DMA_READ finds nobody.
  server.close();
  await assert.rejects(call, { constructor: LostError, code: 'EPIPE' });
  channel.close();
  // Those of clients before may close meanwhile.
  while (openFds().some((fd) => !before.includes(fd))) await sleep(1);
  loopPoll.remove(key);
  keeper.close();
});

test('whenReadable sees an eventfd, and an abort', async () => {
  const event = createEventfd();
  const readable = whenReadable(event.fd);
  setTimeout(() => signalEventfd(event.fd), 5);
  await readable;
  const other = createEventfd();
  await assert.rejects(whenReadable(other.fd, { signal: AbortSignal.timeout(5) }), { name: 'TimeoutError' });
  event.close();
  other.close();
});

test('a process with an open client exits at once, and one that closes it ends by itself', () => {
  const run = (last: string) => {
    const program = `
      import { AsyncVfioUserClient } from ${JSON.stringify(new URL('../../src/api/client.ts', import.meta.url).href)};
      const client = await AsyncVfioUserClient.connect(${JSON.stringify(server.path('borrower'))});
      await client.info();
      ${last}`;
    const args = ['--conditions=barter-source', '--import', 'tsx', '--input-type=module', '-e', program];
    return spawnSync(process.execPath, args, { encoding: 'utf8', timeout: 60_000 });
  };
  assert.equal(run('process.exit(3);').status, 3);
  const closed = run('client.close();');
  assert.deepEqual([closed.status, closed.stderr], [0, '']);
});
