/** The virtio GPU by its commands: what each does, the errors that it gives, and what the screen shows. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { viewOf } from '../../src/abi/layout.ts';
import { VIRTIO_RING_F_EVENT_IDX } from '../../src/abi/virtio.ts';
import * as abi from '../../src/abi/virtio_gpu.ts';
import { Backing } from '../../src/device/virtio-gpu/backing.ts';
import type { Task } from '../../src/task/op.ts';
import { condResched, runner } from '../../src/task/runner.ts';
import { GpuRig, PIXEL_BYTES, PIXELS } from './virtio-gpu-rig.ts';

const OK = abi.VIRTIO_GPU_RESP_OK_NODATA;
const BGRX = abi.VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM;
const WIDTH = 64;
const HEIGHT = 32;
const ALL: [number, number, number, number] = [0, 0, WIDTH, HEIGHT];
const BYTES = WIDTH * HEIGHT * 4;

/** Pixels that are all different, as the driver writes them and as the screen shows them. */
function pictures(): { bgrx: Uint8Array; rgba: Uint8Array } {
  const bgrx = new Uint8Array(BYTES);
  const rgba = new Uint8Array(BYTES);
  for (let i = 0; i < WIDTH * HEIGHT; i++) {
    bgrx.set([i & 0xff, i >> 8, 0x55, 0x12], 4 * i);
    rgba.set([0x55, i >> 8, i & 0xff, 0xff], 4 * i);
  }
  return { bgrx, rgba };
}

/** A 2D resource 1 with memory behind it, on screen 0. */
function withResource(rig: GpuRig): void {
  const { driver } = rig;
  assert.equal(rig.run(driver.create2d(1, BGRX, WIDTH, HEIGHT)), OK);
  assert.equal(rig.run(driver.attachBacking(1, [{ address: PIXELS, length: BYTES }])), OK);
  assert.equal(rig.run(driver.setScanout(0, 1, ALL)), OK);
}

/** A blob 2 in two pieces of memory, in the opposite order, on screen 0. */
function withBlob(rig: GpuRig): void {
  const half = BYTES / 2;
  const ranges = [
    { address: PIXELS + half, length: half },
    { address: PIXELS, length: half },
  ];
  assert.equal(rig.run(rig.driver.createBlob(2, BYTES, ranges)), OK);
  assert.equal(rig.run(rig.driver.setScanoutBlob(0, 2, BGRX, ALL, WIDTH * 4)), OK);
}

for (const features of [[], [VIRTIO_RING_F_EVENT_IDX]]) {
  test(`a 2D resource is transferred, shown and flushed (features ${features})`, () => {
    const rig = new GpuRig('', features);
    const { bgrx, rgba } = pictures();
    withResource(rig);
    rig.pixels.write(0, bgrx);
    assert.ok(rig.run(rig.gpu.picture(0)).pixels.every((byte, i) => byte === (i % 4 === 3 ? 0xff : 0)));
    assert.equal(rig.run(rig.driver.transfer(1, ALL, 0)), OK);
    assert.equal(rig.run(rig.driver.flush(1, ALL)), OK);
    const picture = rig.run(rig.gpu.picture(0));
    assert.deepEqual([picture.width, picture.height], [WIDTH, HEIGHT]);
    assert.deepEqual(picture.pixels, rgba);
    assert.deepEqual(rig.broken, []);
  });
}

test('a part is transferred to its own place, and a part of a resource is shown', () => {
  const rig = new GpuRig();
  const { bgrx, rgba } = pictures();
  withResource(rig);
  rig.pixels.write(0, bgrx);
  const [x, y, width, height] = [8, 4, 16, 2];
  assert.equal(rig.run(rig.driver.transfer(1, [x, y, width, height], (y * WIDTH + x) * 4)), OK);
  assert.equal(rig.run(rig.driver.setScanout(0, 1, [x, y, width, height])), OK);
  const picture = rig.run(rig.gpu.picture(0));
  for (let row = 0; row < height; row++) {
    const from = ((y + row) * WIDTH + x) * 4;
    assert.deepEqual(
      picture.pixels.subarray(row * width * 4, (row + 1) * width * 4),
      rgba.subarray(from, from + width * 4),
    );
  }
});

test('a blob is read where it lies, each time', () => {
  const rig = new GpuRig();
  const { bgrx, rgba } = pictures();
  withBlob(rig);
  rig.pixels.write(BYTES / 2, bgrx.subarray(0, BYTES / 2));
  rig.pixels.write(0, bgrx.subarray(BYTES / 2));
  assert.deepEqual(rig.run(rig.gpu.picture(0)).pixels, rgba);
  rig.pixels.write(BYTES / 2, Uint8Array.of(1, 2, 3, 4));
  assert.deepEqual([...rig.run(rig.gpu.picture(0)).pixels.subarray(0, 4)], [3, 2, 1, 0xff]);
});

test('memory that does not answer is an error of a flush, a transfer and a picture, and no old bytes are shown', () => {
  const rig = new GpuRig();
  withBlob(rig);
  assert.equal(rig.run(rig.driver.flush(2, ALL)), OK);
  rig.domain.unmap(PIXELS, PIXEL_BYTES);
  assert.equal(rig.run(rig.driver.flush(2, ALL)), abi.VIRTIO_GPU_RESP_ERR_UNSPEC);
  assert.throws(() => rig.run(rig.gpu.picture(0)), /EIO: screen 0 cannot be read: .*iommu-fault/);
  withResource(rig);
  assert.equal(rig.run(rig.driver.transfer(1, ALL, 0)), abi.VIRTIO_GPU_RESP_ERR_UNSPEC);
  assert.deepEqual(rig.broken, [], 'the queue itself works');
});

for (const [what, read] of [
  ['a transfer', (rig: GpuRig) => rig.driver.transfer(1, ALL, 0)],
  ['a transfer of parts of rows', (rig: GpuRig) => rig.driver.transfer(1, [0, 0, WIDTH - 1, HEIGHT], 0)],
  ['a picture', (rig: GpuRig) => rig.gpu.picture(0)],
] as const) {
  test(`${what} from memory in pieces of one byte lets other tasks run`, () => {
    const rig = new GpuRig();
    const entry = (_: unknown, i: number) => abi.virtio_gpu_mem_entry.encode({ addr: PIXELS + i, length: 1 });
    const backing = new Backing(Buffer.concat(Array.from({ length: BYTES }, entry)));
    rig.gpu.resources.createPixels(1, BGRX, WIDTH, HEIGHT);
    rig.gpu.resources.attach(1, backing);
    rig.gpu.resources.createBlob(2, BYTES, backing);
    assert.equal(rig.run(rig.driver.setScanoutBlob(0, 2, BGRX, ALL, WIDTH * 4)), OK);
    const { turns } = turnsBeside<unknown>(read(rig));
    assert.ok(turns > BYTES / 512, `${turns} turns in ${BYTES} reads`);
  });
}

test('a large picture of pixels in the device lets other tasks run', () => {
  const rig = new GpuRig();
  const [width, height] = [1024, 1024];
  assert.equal(rig.run(rig.driver.create2d(1, BGRX, width, height)), OK);
  assert.equal(rig.run(rig.driver.setScanout(0, 1, [0, 0, width, height])), OK);
  const { turns, result } = turnsBeside(rig.gpu.picture(0));
  assert.equal(result.pixels.length, width * height * 4);
  assert.ok(turns >= 15, `${turns} turns in 4 MiB`);
});

/** Runs a task to its end, and counts how often another task has run meanwhile. */
function turnsBeside<T>(task: Task<T>): { turns: number; result: T } {
  const long = runner.start('long', task);
  let turns = 0;
  runner.start('other', countTurns());
  runner.drain();
  assert.ok(long.ended);
  return { turns, result: long.result as T };

  function* countTurns(): Task {
    for (; !long.ended; turns++) yield* condResched();
  }
}

test('after DETACH_BACKING the memory is not read, whether or not it answers', () => {
  const rig = new GpuRig();
  withBlob(rig);
  assert.equal(rig.run(rig.driver.detachBacking(2)), OK);
  assert.throws(() => rig.run(rig.gpu.picture(0)), /EIO: .*no memory/);
  assert.equal(rig.run(rig.driver.flush(2, ALL)), abi.VIRTIO_GPU_RESP_ERR_UNSPEC);
  assert.equal(rig.run(rig.driver.detachBacking(2)), OK, 'Linux detaches again at a restore');
  assert.equal(rig.run(rig.driver.attachBacking(2, [{ address: PIXELS, length: BYTES }])), OK);
  assert.equal(rig.run(rig.driver.flush(2, ALL)), OK);
});

test('a resource that is gone is shown nowhere', () => {
  const rig = new GpuRig();
  withBlob(rig);
  assert.equal(rig.run(rig.driver.unref(2)), OK);
  assert.throws(() => rig.run(rig.gpu.picture(0)), /ENODATA: screen 0 shows nothing/);
  assert.throws(() => rig.run(rig.gpu.picture(1)), /EINVAL: there is no screen 1/);
});

test('a cursor is drawn over the picture, blended, and cut at the edges', () => {
  const rig = new GpuRig();
  withResource(rig);
  const { driver } = rig;
  assert.equal(rig.run(driver.create2d(3, abi.VIRTIO_GPU_FORMAT_B8G8R8A8_UNORM, 64, 64)), OK);
  assert.equal(rig.run(driver.attachBacking(3, [{ address: PIXELS, length: 64 * 64 * 4 }])), OK);
  const half = new Uint8Array(64 * 64 * 4).map((_, i) => [0x10, 0x20, 0x80, 0x80][i % 4]);
  rig.pixels.write(0, half);
  assert.equal(rig.run(driver.transfer(3, [0, 0, 64, 64], 0)), OK);
  rig.pixels.write(0, new Uint8Array(BYTES).fill(0x40));
  assert.equal(rig.run(driver.transfer(1, ALL, 0)), OK);
  assert.equal(rig.run(driver.updateCursor(0, 3, 60, 30)), OK);
  const at = (x: number, y: number) => [
    ...rig.run(rig.gpu.picture(0)).pixels.subarray((y * WIDTH + x) * 4, (y * WIDTH + x) * 4 + 4),
  ];
  assert.deepEqual(at(59, 31), [0x40, 0x40, 0x40, 0xff]);
  assert.deepEqual(at(60, 30), [0xa0, 0x40, 0x30, 0xff]);
  assert.equal(rig.run(driver.moveCursor(0, -63 >>> 0, 0)), OK);
  assert.deepEqual(at(0, 0), [0xa0, 0x40, 0x30, 0xff]);
  assert.deepEqual(at(1, 0), [0x40, 0x40, 0x40, 0xff]);
  assert.equal(rig.run(driver.updateCursor(0, 0, 0, 0)), OK);
  assert.deepEqual(at(0, 0), [0x40, 0x40, 0x40, 0xff]);
});

test('bad commands get the errors of the specification', () => {
  const rig = new GpuRig();
  const { driver } = rig;
  withResource(rig);
  const { run } = rig;
  const parameter = abi.VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
  const resource = abi.VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID;
  const scanout = abi.VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID;
  const memory = abi.VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY;
  const range = { address: PIXELS, length: BYTES };
  const header = () => abi.virtio_gpu_resource_unref.encode({});
  const cases: [string, number, number][] = [
    ['resource 0', run(driver.create2d(0, BGRX, 8, 8)), resource],
    ['a resource twice', run(driver.create2d(1, BGRX, 8, 8)), resource],
    ['an unknown format', run(driver.create2d(9, 5, 8, 8)), parameter],
    ['no width', run(driver.create2d(9, BGRX, 0, 8)), parameter],
    ['a huge width', run(driver.create2d(9, BGRX, 2 ** 32 - 1, 8)), parameter],
    ['more pixels than there is room', run(driver.create2d(9, BGRX, 8192, 8192)), memory],
    ['a backing twice', run(driver.attachBacking(1, [range])), parameter],
    ['a backing of an unknown resource', run(driver.attachBacking(9, [range])), resource],
    ['a detach of an unknown resource', run(driver.detachBacking(9)), resource],
    ['an unref of an unknown resource', run(driver.unref(9)), resource],
    ['an unknown screen', run(driver.setScanout(1, 1, ALL)), scanout],
    ['an unknown resource on a screen', run(driver.setScanout(0, 9, ALL)), resource],
    ['a rectangle outside', run(driver.setScanout(0, 1, [1, 0, WIDTH, HEIGHT])), parameter],
    ['a rectangle that overflows', run(driver.setScanout(0, 1, [2 ** 32 - 1, 0, 2, 1])), parameter],
    ['an empty rectangle', run(driver.setScanout(0, 1, [0, 0, 0, 0])), parameter],
    ['a transfer outside of the resource', run(driver.transfer(1, [0, 1, WIDTH, HEIGHT], 0)), parameter],
    ['a transfer outside of the backing', run(driver.transfer(1, ALL, 4)), parameter],
    ['a flush of an unknown resource', run(driver.flush(9, ALL)), resource],
    ['a flush outside', run(driver.flush(1, [0, 0, WIDTH + 1, 1])), parameter],
    ['a blob larger than its memory', run(driver.createBlob(9, BYTES + 1, [range])), parameter],
    ['a blob of nothing', run(driver.createBlob(9, 0, [])), parameter],
    ['a blob past the addresses', run(driver.createBlob(9, 8, [{ address: 2 ** 52 - 4, length: 8 }])), parameter],
    ['a blob scanout of a 2D resource', run(driver.setScanoutBlob(0, 1, BGRX, ALL, WIDTH * 4)), parameter],
    ['a cursor on an unknown screen', run(driver.updateCursor(7, 1, 0, 0)), scanout],
    ['a cursor of the wrong size', run(driver.updateCursor(0, 1, 0, 0)), parameter],
    ['a control command for the cursor', run(driver.send(0x102, header(), 1)), abi.VIRTIO_GPU_RESP_ERR_UNSPEC],
    ['a 3D command', run(driver.send(0x200, header())), abi.VIRTIO_GPU_RESP_ERR_UNSPEC],
    ['a command that is too short', run(driver.send(0x105, header())), parameter],
  ];
  for (const [what, seen, wanted] of cases) assert.equal(seen.toString(16), wanted.toString(16), what);
  assert.equal(run(driver.createBlob(2, BYTES, [range])), OK);
  assert.equal(run(driver.setScanoutBlob(0, 2, BGRX, ALL, WIDTH * 4 - 1)), parameter, 'rows overlap');
  assert.equal(run(driver.setScanoutBlob(0, 2, BGRX, ALL, WIDTH * 4 + 4)), parameter, 'past the end of the blob');
  assert.equal(run(driver.setScanoutBlob(0, 2, 99, ALL, WIDTH * 4)), parameter, 'an unknown format');
  assert.deepEqual(rig.broken, []);
});

test('limits are given back with what took them', () => {
  const rig = new GpuRig();
  for (let i = 0; i < 20; i++) {
    assert.equal(rig.run(rig.driver.create2d(1, BGRX, 4096, 4096)), OK);
    assert.equal(rig.run(rig.driver.attachBacking(1, [{ address: PIXELS, length: 8 }])), OK);
    assert.equal(rig.run(rig.driver.unref(1)), OK);
  }
});

test('display info and EDID tell the size of the screens', () => {
  const rig = new GpuRig('scanouts: 2, width: 1920, height: 1080');
  const info = rig.run(rig.driver.call(abi.VIRTIO_GPU_CMD_GET_DISPLAY_INFO, abi.virtio_gpu_ctrl_hdr.encode({})));
  const { pmodes } = abi.virtio_gpu_resp_display_info.fields;
  const enabled = Array.from({ length: 16 }, (_, i) =>
    abi.virtio_gpu_display_one.fields.enabled.get(viewOf(info), pmodes.offset + 24 * i),
  );
  assert.deepEqual(enabled, [1, 1, ...Array.from({ length: 14 }, () => 0)]);
  const second = abi.virtio_gpu_rect.read(viewOf(info), pmodes.offset + 24);
  assert.deepEqual(second, { x: 1920, y: 0, width: 1920, height: 1080 });
  const request = abi.virtio_gpu_cmd_get_edid.encode({ scanout: 1 });
  const answer = rig.run(rig.driver.call(abi.VIRTIO_GPU_CMD_GET_EDID, request));
  const edid = abi.virtio_gpu_resp_edid.fields.edid.get(viewOf(answer));
  assert.equal(edid.subarray(0, 128).reduce((sum, byte) => sum + byte, 0) & 0xff, 0);
  assert.equal(edid[56] | ((edid[58] >> 4) << 8), 1920);
  assert.equal(edid[59] | ((edid[61] >> 4) << 8), 1080);
  const bad = abi.virtio_gpu_cmd_get_edid.encode({ scanout: 2 });
  assert.equal(rig.run(rig.driver.send(abi.VIRTIO_GPU_CMD_GET_EDID, bad)), abi.VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID);
});

test('a held command waits; others of its queue wait behind it, and a reset forgets them', () => {
  const rig = new GpuRig();
  withBlob(rig);
  rig.run(rig.gpu.hold(['VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING']));
  const detach = runner.start('detach', rig.driver.detachBacking(2));
  runner.drain();
  assert.equal(detach.ended, false);
  assert.equal(rig.run(rig.gpu.picture(0)).width, WIDTH, 'it is not carried out');
  rig.run(rig.gpu.hold([]));
  runner.drain();
  assert.equal(detach.ended, true);
  rig.run(rig.gpu.hold(['VIRTIO_GPU_CMD_RESOURCE_UNREF']));
  const unref = runner.start('unref', rig.driver.unref(2));
  runner.drain();
  rig.driver.virtio.set('device_status', 0);
  assert.equal(rig.driver.virtio.get('device_status'), 0, 'the reset does not wait');
  rig.run(rig.gpu.hold([]));
  runner.drain();
  assert.equal(unref.ended, false, 'a chain from before the reset never comes back');
  assert.throws(() => rig.run(rig.gpu.hold(['VIRTIO_GPU_CMD_CTX_CREATE'])), /EINVAL/);
});
