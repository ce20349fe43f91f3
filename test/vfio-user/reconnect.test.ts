/** The state in which the next client of a device finds it (docs/vfio-user.md, "Clients that come and go"). */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { IOAT_CHAINADDR_OFFSET, IOAT_CHANNEL_MMIO_SIZE } from '../../src/abi/ioat.ts';
import { viewOf } from '../../src/abi/layout.ts';
import {
  VFIO_USER_REGION_WRITE_MULTI,
  VFIO_USER_VERSION,
  vfio_user_region_write_multi,
  vfio_user_write_one,
} from '../../src/abi/vfio-user.ts';
import { IoatDriver } from '../../src/drivers/ioat.ts';
import { createEventfd, readEventfd } from '../../src/linux/eventfd.ts';
import { createMemfd } from '../../src/linux/memfd.ts';
import { VfioUserClient } from '../../src/vfio-user/client/client.ts';
import { encodeVersion } from '../../src/vfio-user/wire/version.ts';
import { InProcessServer } from './in-process.ts';
import { message, RawClient } from './raw-client.ts';
import { connectWhenFree, withServer } from './served.ts';

const server = await withServer();
const CONFIG = 7;
const PAGE = 4096;

function bytesOf(client: VfioUserClient, region: number, offset: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  client.readRegion(region, offset, bytes);
  return bytes;
}

test('memory BARs keep their bytes over any number of clients, however they leave', async () => {
  const first = await connectWhenFree(server.path('lender'));
  const memory = randomBytes(1 << 20);
  first.writeRegion(0, 0, memory);
  first.writeRegion(2, 0x3000, Buffer.from('in the BAR with the table'));
  first.close();
  for (let i = 0; i < 5; i++) {
    const next = await connectWhenFree(server.path('lender'));
    assert.deepEqual(bytesOf(next, 0, 0, 1 << 20), memory);
    assert.equal(bytesOf(next, 2, 0x3000, 25).toString(), 'in the BAR with the table');
    memory[i * 1000] ^= 0xff;
    next.writeRegion(0, i * 1000, memory.subarray(i * 1000, i * 1000 + 1));
    if (i % 2 === 0) {
      next.close();
      continue;
    }
    // In the middle of a message that never completes.
    next.close();
    await server.assertNothingLeft();
    const rude = await rawWhenFree('lender');
    rude.send(Buffer.from([1, 0, 10, 0, 255, 0, 0, 0, 0]));
    rude.close();
  }
  await server.assertNothingLeft();
});

async function rawWhenFree(device: string): Promise<RawClient> {
  (await connectWhenFree(server.path(device))).close();
  await server.assertNothingLeft();
  return RawClient.ready(server.path(device));
}

test('config space, registers, interrupts and DMA mappings start anew', async () => {
  const event = createEventfd();
  const memfd = createMemfd('test', 2 * PAGE);
  const first = await connectWhenFree(server.path('borrower'));
  const fresh = bytesOf(first, CONFIG, 0, 4096);
  first.dmaMap(0x100000, 2 * PAGE, 3, memfd.fd);
  const driver = new IoatDriver(first);
  assert.equal(driver.copy(0x100000, 0x100000 + PAGE, PAGE), 'ok');
  first.setIrqs(0x24, 3, 0, 1, undefined, [event.fd]);
  first.writeRegion(CONFIG, 0x10, Buffer.from([0, 0, 0xe0, 0xfe]));
  first.writeRegion(CONFIG, 4, Buffer.from([6, 4]));
  assert.notDeepEqual(bytesOf(first, CONFIG, 0, 4096), fresh);
  driver.close();
  first.close();
  const second = await connectWhenFree(server.path('borrower'));
  assert.deepEqual(bytesOf(second, CONFIG, 0, 4096), fresh);
  const chain = bytesOf(second, 0, IOAT_CHANNEL_MMIO_SIZE + IOAT_CHAINADDR_OFFSET, 8);
  assert.deepEqual(chain, Buffer.alloc(8), 'the registers are those of a device that was switched on');
  assert.throws(() => second.setIrqs(0x21, 3, 0, 1), /EINVAL/, 'nobody listens to the error interrupt');
  assert.equal(readEventfd(event.fd), 0);
  const again = new IoatDriver(second);
  assert.notEqual(again.copy(0x100000, 0x100000 + PAGE, PAGE), 'ok', 'the mapping is gone');
  second.dmaMap(0x100000, 2 * PAGE, 3, memfd.fd);
  assert.equal(again.copy(0x100000, 0x100000 + PAGE, PAGE), 'ok', 'and can be made anew');
  again.close();
  second.close();
  event.close();
  memfd.close();
  await server.assertNothingLeft();
});

test('a second client is refused, by name, as long as the first is there, and disturbs it in nothing', async () => {
  const first = await connectWhenFree(server.path('lender'));
  first.writeRegion(0, 0, Buffer.from('mine'));
  for (let i = 0; i < 20; i++) assert.throws(() => new VfioUserClient(server.path('lender')), /EBUSY/);
  assert.equal(bytesOf(first, 0, 0, 4).toString(), 'mine');
  first.close();
  const second = await connectWhenFree(server.path('lender'));
  assert.equal(bytesOf(second, 0, 0, 4).toString(), 'mine');
  second.close();
  await server.assertNothingLeft();
});

test('a client that closes in the middle of a long request and connects again at once is served, never EBUSY', () => {
  const server = new InProcessServer();
  const count = 4000;
  const { sizeof } = vfio_user_region_write_multi;
  const writes = vfio_user_region_write_multi.encode({ wr_cnt: count }, count * vfio_user_write_one.sizeof);
  for (let i = 0; i < count; i++) {
    const write = { region: CONFIG, offset: 0x3c, count: 1, data: i & 0xff };
    vfio_user_write_one.write(viewOf(writes), sizeof + i * vfio_user_write_one.sizeof, write);
  }
  let client = server.ready('lender');
  for (let i = 0; i < 5; i++) {
    client.send(message({ command: VFIO_USER_REGION_WRITE_MULTI }, writes));
    client.close();
    client = new RawClient(server.path('lender'));
    client.send(message({ command: VFIO_USER_VERSION }, encodeVersion()));
    server.pump();
    assert.equal(client.tryReceive()?.error, 0);
  }
  client.close();
  server.close();
});
