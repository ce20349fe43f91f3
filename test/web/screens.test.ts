/** The screens of devices on the page: of a GPU in this process, and of a server. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { decode } from 'fast-png';
import * as abi from '../../src/abi/virtio_gpu.ts';
import { loadMachine } from '../../src/machine/load.ts';
import { serveMachine } from '../../src/machine/served.ts';
import { Board } from '../../src/web/board.ts';
import { PageServer } from '../../src/web/page-server.ts';
import { Screens } from '../../src/web/screens.ts';
import { startServePage } from '../../src/web/serve-page.ts';
import { GpuRig, PIXELS } from '../device/virtio-gpu-rig.ts';

const ADDRESS = { host: '127.0.0.1', port: 0 };

/** Shows `pixels` on the first screen. */
function show(rig: GpuRig, width: number, height: number, pixels: Uint8Array): void {
  rig.pixels.write(0, pixels);
  rig.run(rig.driver.createBlob(1, pixels.length, [{ address: PIXELS, length: pixels.length }]));
  const format = abi.VIRTIO_GPU_FORMAT_R8G8B8X8_UNORM;
  rig.run(rig.driver.setScanoutBlob(0, 1, format, [0, 0, width, height], width * 4));
}

test('a hundred viewers cost one picture, which has the pixels; an unknown screen is 404', async () => {
  const rig = new GpuRig();
  const pixels = new Uint8Array(20 * 10 * 4).map((_, i) => (i * 7) & 0xff);
  show(rig, 20, 10, pixels);
  let pictures = 0;
  const screens = new Screens(['gpu'], async () => {
    pictures += 1;
    return rig.run(rig.gpu.picture(0));
  });
  const page = await PageServer.start({ address: ADDRESS, board: new Board(), screens });
  const responses = await Promise.all(Array.from({ length: 100 }, () => fetch(`${page.url}screen/gpu.png`)));
  assert.ok(pictures <= 10, `${pictures} pictures for a hundred viewers`);
  assert.ok(responses.every(({ status }) => status === 200));
  const png = decode(await responses[99].arrayBuffer());
  assert.deepEqual([png.width, png.height], [20, 10]);
  assert.deepEqual(
    [...png.data],
    [...pixels].filter((_, i) => i % 4 !== 3),
  );
  assert.equal((await fetch(`${page.url}screen/lender.png`)).status, 404);
  page.close();
});

test('viewers share a picture that is slow to come, and one that was slow stays longer', async () => {
  let pictures = 0;
  const slowMs = 150;
  const screens = new Screens(['gpu'], async () => {
    pictures += 1;
    await sleep(slowMs);
    return { width: 1, height: 1, pixels: new Uint8Array(4) };
  });
  const first = screens.png('gpu');
  await sleep(1);
  assert.equal(screens.png('gpu'), first);
  await first;
  const seenMs = performance.now();
  while (screens.png('gpu') === first) await sleep(5);
  assert.ok(performance.now() - seenMs > 3 * slowMs, 'it rests four times as long as it took');
  assert.equal(pictures, 2);
});

test("a served device's screen comes from the serving thread; without a picture the reason comes", async () => {
  const folder = mkdtempSync(join(tmpdir(), 'barter-screens-'));
  const description = loadMachine('examples/screen.yaml');
  const served = await serveMachine(description, { socketDir: folder, watch: { control: false } });
  const page = await startServePage(ADDRESS, served.watcher!, description, false, ['gpu']);
  const response = await fetch(`${page.url}screen/gpu.png`);
  assert.match(response.headers.get('content-type')!, /^text\/plain/);
  assert.match(await response.text(), /^ENODATA: /);
  page.close();
  await served.stop();
  await assert.rejects(served.watcher!.screen('gpu'), { code: 'ESHUTDOWN' });
  rmSync(folder, { recursive: true, force: true });
});
