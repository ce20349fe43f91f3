/** barter screenshot, and the socket of a screen: pictures of a device that is served, and answers to bad requests. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { decode } from 'fast-png';
import * as abi from '../../src/abi/virtio_gpu.ts';
import { VirtioGpu } from '../../src/device/virtio-gpu/gpu.ts';
import { ScreenServer } from '../../src/machine/screen/server.ts';
import { serveDevices } from '../../src/machine/serve-devices.ts';
import { runner } from '../../src/task/runner.ts';
import { EventLoop } from '../../src/vfio-user/wire/event-loop.ts';
import { GpuRig, PIXEL_BYTES, PIXELS } from '../device/virtio-gpu-rig.ts';
import { barter, endOf, spawnBarter, startBarter } from './barter.ts';

async function inFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'barter-screen-'));
  try {
    await body(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Serves the screen of a GPU here, while `body` runs. */
async function withScreen(folder: string, body: (rig: GpuRig, path: string) => Promise<void>): Promise<void> {
  const rig = new GpuRig();
  const loop = new EventLoop();
  const path = join(folder, 'gpu.screen');
  const server = new ScreenServer(loop, rig.gpu, path);
  let isOver = false;
  const turn = (): void => {
    if (isOver) return;
    loop.turn(5);
    setImmediate(turn);
  };
  setImmediate(turn);
  try {
    await body(rig, path);
  } finally {
    isOver = true;
    server.close();
    loop.close();
  }
  assert.equal(existsSync(path), false);
}

function show(rig: GpuRig, width: number, height: number): Uint8Array {
  const bytes = width * height * 4;
  const pixels = new Uint8Array(bytes).map((_, i) => (i * 7) & 0xff);
  rig.pixels.write(0, pixels);
  runner.run(rig.driver.createBlob(1, bytes, [{ address: PIXELS, length: bytes }]));
  const format = abi.VIRTIO_GPU_FORMAT_R8G8B8X8_UNORM;
  runner.run(rig.driver.setScanoutBlob(0, 1, format, [0, 0, width, height], width * 4));
  return pixels;
}

async function run(...args: string[]): Promise<{ status: number | null; stdout: string; stderr: string }> {
  const child = spawnBarter(...args);
  const text = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) child[name]!.on('data', (chunk) => (text[name] += String(chunk)));
  const [status] = await once(child, 'close');
  return { status, ...text };
}

test('the PNG has the pixels of the screen; memory that was taken back is an error, and leaves no file', () =>
  inFolder((folder) =>
    withScreen(folder, async (rig, path) => {
      const pixels = show(rig, 100, 50);
      const file = join(folder, 'shot.png');
      const done = await run('screenshot', path, '-o', file, '--json');
      assert.equal(done.stderr, '');
      assert.deepEqual(JSON.parse(done.stdout), { file, width: 100, height: 50 });
      const png = decode(readFileSync(file));
      assert.deepEqual([png.width, png.height, png.channels], [100, 50, 3]);
      assert.deepEqual(
        [...png.data],
        [...pixels].filter((_, i) => i % 4 !== 3),
      );
      rmSync(file);
      rig.domain.unmap(PIXELS, PIXEL_BYTES);
      const failed = await run('screenshot', path, '-o', file);
      assert.equal(failed.status, 1);
      assert.match(failed.stderr, /^barter: EIO: screen 0 cannot be read: .*iommu-fault\n$/);
      assert.equal(existsSync(file), false);
    }),
  ));

test('serveDevices serves the screen of a device too', () =>
  inFolder(async (folder) => {
    const gpu = new VirtioGpu({ pm: {} }, { width: 8, height: 4 });
    const { devices, stop, ended } = serveDevices({ gpu: gpu.device }, folder);
    const screen = join(folder, 'gpu.screen');
    assert.deepEqual(devices, [{ name: 'gpu', socket: join(folder, 'gpu.sock'), screen }]);
    const shown = await run('screenshot', devices[0].socket, '-o', join(folder, 'shot.png'));
    assert.match(shown.stderr, /ENODATA: screen 0 shows nothing/);
    stop();
    await ended;
    assert.equal(existsSync(screen), false);
  }));

test('requests that make no sense are answered, or end the connection; the next reader is served', () =>
  inFolder((folder) =>
    withScreen(folder, async (rig, path) => {
      const ask = async (bytes: string): Promise<string> => {
        const socket = connect(path);
        const reply = await new Promise((resolve) => {
          socket.on('error', () => {});
          socket.once('data', resolve);
          socket.once('close', () => resolve('closed'));
          socket.write(bytes);
        });
        socket.destroy();
        return String(reply);
      };
      for (const bad of [
        '{}',
        '[]',
        'null',
        'x',
        '{"do":"picture"}',
        '{"do":"picture","scanout":-1}',
        '{"do":"hold"}',
      ]) {
        assert.match(await ask(`${bad}\n`), /"errno":"EINVAL"/, bad);
      }
      assert.match(await ask('{"do":"picture","scanout":3}\n'), /EINVAL.*no screen 3/);
      assert.match(await ask('{"do":"hold","commands":["x"]}\n'), /EINVAL/);
      assert.match(await ask(`{"do":"hold","commands":["${'x'.repeat(4060)}"]}\n`), /EINVAL.*\n$/, 'the whole line');
      assert.match(await ask('x'.repeat(5000)), /closed/);
      assert.match(await ask('{"do":"hold","commands":[]}\n'), /"ok":true/);
      const idle = Array.from({ length: 8 }, () => connect(path));
      await Promise.all(idle.map((socket) => once(socket, 'connect')));
      assert.match(await ask('{"do":"hold","commands":[]}\n'), /closed/, 'too many readers');
      for (const socket of idle) socket.destroy();
      show(rig, 8, 8);
      const file = join(folder, 'x.png');
      assert.equal((await run('screenshot', path, '-o', file)).status, 0);
    }),
  ));

test('barter serve has a socket for the screen, for the owner alone; a screen that shows nothing is an error', () =>
  inFolder(async (folder) => {
    const { child, firstLine } = await startBarter('serve', 'examples/screen.yaml', '--socket-dir', folder, '--json');
    const [lender, gpu] = JSON.parse(firstLine).devices;
    assert.equal('screen' in lender, false);
    assert.equal(statSync(gpu.screen).mode & 0o777, 0o600);
    const nothing = barter('screenshot', gpu.socket);
    assert.equal(nothing.status, 1);
    assert.match(nothing.stderr, /^barter: ENODATA: screen 0 shows nothing\n$/);
    const none = barter('screenshot', lender.socket);
    assert.equal(none.status, 2);
    assert.match(none.stderr, /the device has no screen/);
    assert.equal(await endOf(child, 'SIGTERM'), 0);
    assert.deepEqual(readdirSync(folder), []);
    assert.match(barter('screenshot', gpu.socket).stderr, /there is no such socket/);
    assert.match(barter('screenshot', 'no-such-device').stderr, /no server has a screen no-such-device/);
  }));
