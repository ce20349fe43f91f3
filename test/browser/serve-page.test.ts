/** The page of `barter serve --http --control`: a lent buffer, an importer in another process, a revoke by the page. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Locator, Page } from 'playwright-core';
import { VFIO_USER_F_DMA_REGION_READ, VFIO_USER_F_DMA_REGION_WRITE } from '../../src/abi/vfio-user.ts';
import * as abi from '../../src/abi/virtio_gpu.ts';
import { ImporterProcess } from '../../src/demo/importer-process.ts';
import { IoatDriver } from '../../src/drivers/ioat.ts';
import { createMemfd } from '../../src/linux/memfd.ts';
import type { Task } from '../../src/task/op.ts';
import { VfioUserClient } from '../../src/vfio-user/client/client.ts';
import { Board } from '../../src/web/board.ts';
import { PageServer } from '../../src/web/page-server.ts';
import { Screens } from '../../src/web/screens.ts';
import { endOf, startBarter } from '../cli/barter.ts';
import { GpuRig, PIXEL_BYTES, PIXELS } from '../device/virtio-gpu-rig.ts';
import { SERVED_PIXELS, ServedGpu } from '../drivers/served-gpu.ts';
import { enableMemory, exportBuffer } from '../vfio-user/lent.ts';
import { axeFaults } from './axe.ts';
import { openPage, skip } from './chromium.ts';

const folder = mkdtempSync(join(tmpdir(), 'barter-page-'));
after(() => rmSync(folder, { recursive: true, force: true }));

const COPIED_BYTES = 1 << 20;

async function served(...options: string[]) {
  const args = ['examples/two-peers.yaml', '--socket-dir', folder, '--http', '0', '--json', ...options];
  const { child, firstLine } = await startBarter('serve', ...args);
  child.stderr!.resume();
  const { devices, http } = JSON.parse(firstLine) as { devices: { socket: string }[]; http: string };
  return { child, http, lender: devices[0].socket, borrower: devices[1].socket };
}

/** A server whose page may pull triggers, and whose lender has lent a buffer to a client. The caller closes both. */
async function lent(t: TestContext) {
  const { child, http, lender } = await served('--control');
  t.after(() => endOf(child, 'SIGTERM'));
  const client = new VfioUserClient(lender);
  enableMemory(client, true);
  return { http, client, buffer: exportBuffer(client) };
}

test('a revoke by the page shows in the lane, with its cause and its time, and the importer by its process', {
  skip,
  timeout: 120_000,
}, async (t) => {
  const { http, client, buffer } = await lent(t);
  const importer = new ImporterProcess(buffer);
  await importer.next('mapped');
  const { page, errors, requests } = await openPage(http);
  const lane = page.locator('#buffers .buffer');
  await lane.getByText(`process ${importer.pid}`).first().waitFor({ state: 'attached' });
  const users = `process ${importer.pid} (barter import) has mapped it, no fence pending`;
  await lane.locator('.head', { hasText: users }).waitFor();
  await page.getByText(`client: process ${process.pid}`).waitFor();
  await page.getByRole('button', { name: 'Memory off: lender' }).click();
  await page.locator('#control .result', { hasText: /Memory off: lender: done in \d+ ms/ }).waitFor();
  await lane
    .locator('svg text', { hasText: /^memory bit, [\d.]+ (µs|ms)$/ })
    .first()
    .waitFor();
  await lane
    .locator('svg text', { hasText: /^let go after [\d.]+ (µs|ms)$/ })
    .first()
    .waitFor();
  assert.match((await lane.locator('.state').textContent()) ?? '', /^revoked \(memory bit, /);
  await lane.locator('summary').click();
  await lane.locator('li', { hasText: `process ${importer.pid} let go after` }).waitFor();
  // The newest messages, decoded with their replies.
  client.info();
  await page.locator('#newest tr', { hasText: 'DEVICE_GET_INFO' }).first().waitFor();
  assert.throws(() => exportBuffer(client, { region: 5 }), { code: 'ENODEV' });
  await page.locator('#newest tr.failed', { hasText: /DMA_BUF GET.*ENODEV/ }).waitFor();
  await page.locator('#by-command').selectOption('DEVICE_GET_INFO');
  await page.locator('#newest tr.failed').waitFor({ state: 'detached' });
  await page.getByRole('button', { name: 'Memory on: lender' }).click();
  await importer.next('mapped');
  await lane.locator('.state', { hasText: /^lent$/ }).waitFor();
  assert.deepEqual(errors, []);
  assert.ok(
    requests.every((url) => url.startsWith(http)),
    'the page asks nobody else',
  );
  buffer.close();
  await importer.end();
  client.close();
});

test('a newcomer plays the demo by hand, with the keyboard alone', { skip, timeout: 120_000 }, async (t) => {
  const { child, http } = await served('--control');
  t.after(() => endOf(child, 'SIGTERM'));
  const { page, errors } = await openPage(http);
  const press = async (name: string) => {
    const button = page.getByRole('button', { name, exact: true }).first();
    await button.focus();
    await page.keyboard.press('Enter');
  };
  await page.getByRole('button', { name: 'Export a slice of lender' }).waitFor();
  await press('Export a slice of lender');
  await press('Import buffer 1');
  await page.locator('#machine', { hasText: 'mapped by borrower' }).waitFor();
  // The panel has one more button now, and the focus is where it was.
  await page.getByRole('button', { name: 'Drop import by borrower' }).waitFor();
  const focused = await page.evaluate<string>(`document.activeElement.getAttribute('aria-label')`);
  assert.equal(focused, 'Import buffer 1');
  await press('FLR: lender');
  const lane = page.locator('#buffers .buffer');
  await lane
    .locator('svg text', { hasText: /^let go after [\d.]+ m?s$/ })
    .first()
    .waitFor();
  await press('Drop import by borrower');
  await press('Close buffer 1');
  await lane.locator('.state', { hasText: 'released' }).waitFor();
  assert.deepEqual(errors, []);
});

/** Whether the words of a plot have the ink of the scheme, which the plot itself draws. */
function hasInk(page: Page, scheme: 'light' | 'dark'): Promise<boolean> {
  const isPart = scheme === 'dark' ? '(part) => part > 200' : '(part) => part < 60';
  return page.evaluate<boolean>(`(() => {
    const { width, height } = document.querySelector('#messages canvas');
    const { data } = document.querySelector('#messages canvas').getContext('2d').getImageData(0, 0, width, height);
    const isInk = (at) => data[at + 3] > 200 && data.subarray(at, at + 3).every(${isPart});
    return data.some((_, i) => i % 4 === 0 && isInk(i));
  })()`);
}

test('axe finds no fault, at 400 and at 1600 pixels, light and dark, and nothing is wider than the page', {
  skip,
  timeout: 120_000,
}, async (t) => {
  const { http, client, buffer } = await lent(t);
  for (const [width, colorScheme] of [
    [400, 'light'],
    [1600, 'dark'],
  ] as const) {
    const { page } = await openPage(http, { width, height: 900 });
    await page.emulateMedia({ colorScheme });
    await page.locator('#buffers .buffer svg').waitFor();
    await page.locator('#newest tbody tr, #limits tbody tr').first().waitFor();
    while (!(await hasInk(page, colorScheme))) await sleep(50);
    assert.ok((await page.evaluate<number>('document.documentElement.scrollWidth')) <= width);
    assert.deepEqual(await axeFaults(page), []);
    await page.close();
  }
  buffer.close();
  client.close();
});

test("links show the traffic of the devices below them: a client's messages, and a device's DMA", {
  skip,
  timeout: 120_000,
}, async (t) => {
  const { child, http, lender, borrower } = await served();
  t.after(() => endOf(child, 'SIGTERM'));
  const { page, errors } = await openPage(http);
  const link = (name: string) => page.locator('#machine li', { has: page.locator(`> article[aria-label="${name}"]`) });
  const port = (name: string) =>
    page.locator('#machine li', { has: page.locator('> .port', { hasText: new RegExp(`^${name} `) }) });
  /** Does something again and again until each of the locators is on the page. */
  const during = async (act: () => void, ...shown: Locator[]): Promise<void> => {
    for (const each of shown) {
      while ((await each.count()) === 0) {
        act();
        await sleep(5);
      }
    }
  };
  const busy = page.locator('#machine li.busy');
  await link('borrower').waitFor();
  assert.equal(await busy.count(), 0);

  const client = new VfioUserClient(lender);
  const quiet = page.locator('#machine li:not(.busy) > article[aria-label="borrower"]');
  await during(() => client.info(), link('lender').and(page.locator('.busy.down')), port('slot0').and(busy));
  await during(
    () => client.info(),
    port('root').and(busy),
    port('switch').locator('> .flow', { hasText: 'messages/s' }),
  );
  assert.equal(await quiet.count(), 1);
  assert.equal(await port('slot1').and(busy).count(), 0);
  client.close();
  await page.locator('#machine:not(:has(li.busy))').waitFor();

  // Copies of the DMA engine, from and to memory of its client.
  const other = new VfioUserClient(borrower);
  const engine = new IoatDriver(other);
  const memfd = createMemfd('copied', COPIED_BYTES);
  other.dmaMap(0, COPIED_BYTES, VFIO_USER_F_DMA_REGION_READ | VFIO_USER_F_DMA_REGION_WRITE, memfd.fd);
  const copy = () => assert.equal(engine.copy(0, COPIED_BYTES / 2, COPIED_BYTES / 2), 'ok');
  const passed = port('slot0').and(page.locator('.passed.up-passed'));
  await during(copy, link('borrower').and(page.locator('.busy.up')), port('slot1').and(busy), passed);
  await during(copy, port('slot1').locator('> .flow', { hasText: /[\d.]+ [KMG]iB\/s by DMA/ }));
  // The dashes move, and the page changes the link's words without a new element, which would start them anew.
  const moving = `document.getAnimations().filter(({ animationName }) => animationName === 'flow').length`;
  while ((await page.evaluate<number>(moving)) === 0) copy();
  await page.evaluate(`window.link = document.querySelector('#machine li:has(> article[aria-label="borrower"])')`);
  for (const before = await link('borrower').textContent(); (await link('borrower').textContent()) === before; ) copy();
  assert.ok(await page.evaluate<boolean>('window.link.isConnected'));
  engine.close();
  other.close();
  memfd.close();
  await page.locator('#machine:not(:has(li.busy))').waitFor();
  assert.deepEqual(errors, []);
});

test('the page says how many events of lent buffers were dropped', { skip, timeout: 120_000 }, async (t) => {
  const board = new Board();
  board.set('machine', { machine: 'm', description: 'A machine.', ports: [], places: [], devices: [] });
  const server = await PageServer.start({ address: { host: '127.0.0.1', port: 0 }, board });
  t.after(() => server.close());
  const { page, errors } = await openPage(server.url);
  await page.locator('#buffers').waitFor();
  assert.equal(await page.locator('#buffers .lost').isVisible(), false);
  board.set('events-lost', 7);
  server.viewers.send();
  await page.locator('#buffers .lost', { hasText: /^7 events came faster/ }).waitFor();
  assert.deepEqual(errors, []);
});

/** The colour of a pixel of the page's canvas, and the size of the canvas. */
function shownAt(page: Page, x: number, y: number): Promise<number[]> {
  return page.evaluate<number[]>(`(() => {
    const canvas = document.querySelector('#screens canvas');
    const [red, green, blue] = canvas.getContext('2d').getImageData(${x}, ${y}, 1, 1).data;
    return [canvas.width, canvas.height, red, green, blue];
  })()`);
}

test("a client's picture on a served GPU is the picture on the page, and follows each transfer and flush", {
  skip,
  timeout: 120_000,
}, async (t) => {
  const args = ['examples/screen.yaml', '--socket-dir', folder, '--http', '0', '--json'];
  const { child, firstLine } = await startBarter('serve', ...args);
  t.after(() => endOf(child, 'SIGTERM'));
  child.stderr!.resume();
  const { devices, http } = JSON.parse(firstLine) as { devices: { name: string; socket: string }[]; http: string };
  const { page, errors } = await openPage(http);
  const note = page.locator('#screens .note');
  await note.filter({ hasText: /^ENODATA: screen 0 shows nothing$/ }).waitFor();
  const [width, height] = [64, 32];
  const gpu = new ServedGpu(devices.find(({ name }) => name === 'gpu')!.socket, width * height * 4);
  t.after(() => gpu.close());
  const { driver } = gpu;
  const ok = (task: Task<number>): void => assert.equal(gpu.run(task), abi.VIRTIO_GPU_RESP_OK_NODATA);
  /** Each pixel is [red, its column, its row], in the format's order: blue, green, red, nothing. */
  const paint = (red: number): void => {
    const colour = (i: number) => [(i / 4 / width) | 0, ((i / 4) | 0) % width, red, 0][i % 4];
    gpu.pixels.write(
      0,
      new Uint8Array(width * height * 4).map((_, i) => colour(i)),
    );
    ok(driver.transfer(1, [0, 0, width, height], 0));
    ok(driver.flush(1, [0, 0, width, height]));
  };
  ok(driver.create2d(1, abi.VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM, width, height));
  ok(driver.attachBacking(1, [{ address: SERVED_PIXELS, length: width * height * 4 }]));
  ok(driver.setScanout(0, 1, [0, 0, width, height]));
  paint(200);
  await note.filter({ hasText: '64 by 32 pixels' }).waitFor();
  while ((await shownAt(page, 5, 9))[2] !== 200) await sleep(50);
  assert.deepEqual(await shownAt(page, 0, 0), [width, height, 200, 0, 0]);
  assert.deepEqual(await shownAt(page, 5, 9), [width, height, 200, 5, 9]);
  assert.deepEqual(await shownAt(page, 63, 31), [width, height, 200, 63, 31]);
  paint(90);
  while ((await shownAt(page, 63, 31))[2] !== 90) await sleep(50);
  ok(driver.setScanout(0, 0, [0, 0, 0, 0]));
  await note.filter({ hasText: /^ENODATA: screen 0 shows nothing$/ }).waitFor();
  assert.deepEqual(await axeFaults(page), []);
  assert.deepEqual(errors, []);
});

test('the screen of a GPU shows its pixels, and changes with them', { skip, timeout: 120_000 }, async (t) => {
  const rig = new GpuRig();
  const bytes = 64 * 32 * 4;
  const paint = (red: number) =>
    rig.pixels.write(
      0,
      new Uint8Array(bytes).map((_, i) => [red, 20, 30, 0][i % 4]),
    );
  paint(200);
  rig.run(rig.driver.createBlob(1, bytes, [{ address: PIXELS, length: bytes }]));
  rig.run(rig.driver.setScanoutBlob(0, 1, abi.VIRTIO_GPU_FORMAT_R8G8B8X8_UNORM, [0, 0, 64, 32], 64 * 4));
  const board = new Board();
  board.set('screens', ['gpu']);
  const screens = new Screens(['gpu'], async () => rig.run(rig.gpu.picture(0)));
  const server = await PageServer.start({ address: { host: '127.0.0.1', port: 0 }, board, screens });
  t.after(() => server.close());
  const { page, errors } = await openPage(server.url);
  await page.locator('#screens .note', { hasText: '64 by 32 pixels' }).waitFor();
  const redShown = () =>
    page.evaluate<number>(`document.querySelector('canvas').getContext('2d').getImageData(3, 3, 1, 1).data[0]`);
  assert.equal(await redShown(), 200);
  paint(90);
  while ((await redShown()) !== 90) await sleep(50);
  rig.domain.unmap(PIXELS, PIXEL_BYTES);
  await page.locator('#screens .note', { hasText: /^EIO: screen 0 cannot be read/ }).waitFor();
  assert.deepEqual(errors, []);
});
