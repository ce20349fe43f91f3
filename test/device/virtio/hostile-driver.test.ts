/**
 * A driver that breaks every rule: chains with loops and bad lengths, commands with bad resources and sizes, registers
 * written at random, resets in between. The device must answer or stop, lose nothing, and work after a reset.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Errno } from '../../../src/abi/errno.ts';
import { BytesField, type Struct, viewOf } from '../../../src/abi/layout.ts';
import { VIRTIO_CONFIG_S_DRIVER_OK, vring_avail, vring_desc } from '../../../src/abi/virtio.ts';
import * as abi from '../../../src/abi/virtio_gpu.ts';
import { virtio_pci_common_cfg } from '../../../src/abi/virtio_pci.ts';
import { QUEUE_BYTES, type VirtioGpuDriver } from '../../../src/drivers/virtio-gpu.ts';
import { runner } from '../../../src/task/runner.ts';
import { GpuRig, PIXELS, RINGS } from '../virtio-gpu-rig.ts';

const RUNS = 150;
/** Where the offsets of a queue's room lie, as src/drivers/virtio.ts has them. */
const AVAILABLE = 0x1000;
const REQUESTS = 0x4000;
const RESPONSES = 0x6000;
const HOLDABLE = ['VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING', 'VIRTIO_GPU_CMD_RESOURCE_FLUSH'];

/** The commands, each with its struct. */
const COMMANDS: readonly [number, Struct<never>][] = Object.entries({
  GET_DISPLAY_INFO: abi.virtio_gpu_ctrl_hdr,
  RESOURCE_CREATE_2D: abi.virtio_gpu_resource_create_2d,
  RESOURCE_UNREF: abi.virtio_gpu_resource_unref,
  SET_SCANOUT: abi.virtio_gpu_set_scanout,
  RESOURCE_FLUSH: abi.virtio_gpu_resource_flush,
  TRANSFER_TO_HOST_2D: abi.virtio_gpu_transfer_to_host_2d,
  RESOURCE_ATTACH_BACKING: abi.virtio_gpu_resource_attach_backing,
  RESOURCE_DETACH_BACKING: abi.virtio_gpu_resource_detach_backing,
  GET_EDID: abi.virtio_gpu_cmd_get_edid,
  RESOURCE_CREATE_BLOB: abi.virtio_gpu_resource_create_blob,
  SET_SCANOUT_BLOB: abi.virtio_gpu_set_scanout_blob,
  UPDATE_CURSOR: abi.virtio_gpu_update_cursor,
  MOVE_CURSOR: abi.virtio_gpu_update_cursor,
}).map(([name, layout]) => [
  (abi as unknown as Record<string, number>)[`VIRTIO_GPU_CMD_${name}`],
  layout as unknown as Struct<never>,
]);

const rect = abi.virtio_gpu_rect.encode({ width: 2, height: 2 });
const entry = abi.virtio_gpu_mem_entry.encode({ addr: PIXELS, length: 64 });
const size = { width: 2, height: 2, format: abi.VIRTIO_GPU_FORMAT_B8G8R8A8_UNORM };
const strides = new Uint8Array(new Uint32Array([8, 0, 0, 0]).buffer);

/** Commands without a fault, in an order that may have one. */
const RIGHT: readonly ((resource_id: number) => [type: number, request: Buffer])[] = [
  (id) => [
    abi.VIRTIO_GPU_CMD_RESOURCE_CREATE_2D,
    abi.virtio_gpu_resource_create_2d.encode({ resource_id: id, ...size }),
  ],
  (id) => {
    const head = abi.virtio_gpu_resource_attach_backing.encode({ resource_id: id, nr_entries: 1 });
    return [abi.VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING, Buffer.concat([head, entry])];
  },
  (id) => {
    const fields = { resource_id: id, blob_mem: abi.VIRTIO_GPU_BLOB_MEM_GUEST, size: 64, nr_entries: 1 };
    const head = abi.virtio_gpu_resource_create_blob.encode(fields);
    return [abi.VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB, Buffer.concat([head, entry])];
  },
  (id) => [
    abi.VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING,
    abi.virtio_gpu_resource_detach_backing.encode({ resource_id: id }),
  ],
  (id) => [
    abi.VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D,
    abi.virtio_gpu_transfer_to_host_2d.encode({ resource_id: id, r: rect }),
  ],
  (id) => [abi.VIRTIO_GPU_CMD_SET_SCANOUT, abi.virtio_gpu_set_scanout.encode({ resource_id: id, r: rect })],
  (id) => [
    abi.VIRTIO_GPU_CMD_SET_SCANOUT_BLOB,
    abi.virtio_gpu_set_scanout_blob.encode({ resource_id: id, r: rect, strides, ...size }),
  ],
  (id) => [abi.VIRTIO_GPU_CMD_RESOURCE_FLUSH, abi.virtio_gpu_resource_flush.encode({ resource_id: id, r: rect })],
  () => [abi.VIRTIO_GPU_CMD_GET_EDID, abi.virtio_gpu_cmd_get_edid.encode({})],
  (id) => [abi.VIRTIO_GPU_CMD_RESOURCE_UNREF, abi.virtio_gpu_resource_unref.encode({ resource_id: id })],
];

const word = fc.oneof(
  { weight: 6, arbitrary: fc.integer({ min: 0, max: 3 }) },
  { weight: 2, arbitrary: fc.constantFrom(4, 16, 64, 256, 4096, 8192, 8193, PIXELS, RINGS) },
  { weight: 1, arbitrary: fc.constantFrom(0x7fff_ffff, 0x8000_0000, 0xffff_fff0, 0xffff_ffff) },
  { weight: 1, arbitrary: fc.nat(0xffff_ffff) },
);

/** A command: a struct of the device with any words in its fields, or any bytes. */
const command = fc.record({
  kind: fc.nat(COMMANDS.length - 1),
  /** -1: as long as the struct and its entries are. */
  length: fc.oneof({ weight: 8, arbitrary: fc.constant(-1) }, fc.nat(200)),
  words: fc.array(word, { minLength: 24, maxLength: 24 }),
  entries: fc.array(fc.tuple(fc.constantFrom(PIXELS, PIXELS + 4096, RINGS, 0, 0xffff_f000), word), { maxLength: 4 }),
});

const descriptor = fc.record({
  addr: fc.oneof(
    { weight: 6, arbitrary: fc.constantFrom(REQUESTS, RESPONSES, 0, AVAILABLE) },
    fc.constantFrom(2 * QUEUE_BYTES - 1, 2 * QUEUE_BYTES, 0x1000_0000, 2 ** 40),
  ),
  len: fc.oneof({ weight: 4, arbitrary: fc.nat(512) }, fc.constantFrom(0, 16, 0xffff_ffff)),
  flags: fc.oneof({ weight: 6, arbitrary: fc.nat(3) }, fc.nat(7)),
  next: fc.oneof({ weight: 6, arbitrary: fc.nat(7) }, fc.constantFrom(63, 64, 0xffff)),
});

const step = fc.oneof(
  {
    weight: 10,
    arbitrary: fc.record({
      do: fc.constant('right' as const),
      which: fc.nat(RIGHT.length - 1),
      id: fc.integer({ min: 1, max: 2 }),
    }),
  },
  {
    weight: 10,
    arbitrary: fc.record({ do: fc.constant('command' as const), queue: fc.constantFrom(0, 0, 0, 1), command }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('chain' as const),
      queue: fc.nat(1),
      descriptors: fc.array(descriptor, { minLength: 8, maxLength: 8 }),
      head: fc.oneof(fc.nat(7), fc.constantFrom(63, 64, 0xffff)),
      /** How far the index of the available ring goes. */
      ahead: fc.oneof({ weight: 6, arbitrary: fc.constant(1) }, fc.constantFrom(0, 2, 65, 0xffff)),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('register' as const),
      name: fc.constantFrom(
        ...(Object.keys(virtio_pci_common_cfg.fields) as (keyof typeof virtio_pci_common_cfg.fields)[]),
      ),
      value: word,
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('picture' as const), screen: fc.nat(1) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('hold' as const), names: fc.subarray(HOLDABLE) }) },
  { weight: 2, arbitrary: fc.constant({ do: 'restart' as const }) },
  { weight: 1, arbitrary: fc.constant({ do: 'reset' as const }) },
);

type Valued<A> = A extends fc.Arbitrary<infer T> ? T : never;
type Step = Valued<typeof step>;

class Hostile {
  readonly rig = new GpuRig();
  readonly answers: Set<number>;

  constructor(answers: Set<number>) {
    this.answers = answers;
    this.rig.fn.interrupts = null;
  }

  take(one: Step): void {
    const { virtio } = this.rig.driver;
    if (one.do === 'right') this.send(0, ...RIGHT[one.which](one.id));
    else if (one.do === 'command') this.command(one.queue, one.command);
    else if (one.do === 'chain') this.chain(one.queue, one.descriptors, one.head, one.ahead);
    else if (one.do === 'register') virtio.set(one.name, one.value);
    else if (one.do === 'picture') runner.start('picture', this.picture(one.screen));
    else if (one.do === 'hold') runner.run(this.rig.gpu.hold(one.names));
    else if (one.do === 'restart') this.restart();
    else runner.run(this.rig.fn.hardwareReset());
    runner.drain();
  }

  /** A well-formed driver, on a device that was reset. */
  restart(): VirtioGpuDriver {
    runner.run(this.rig.gpu.hold([]));
    runner.drain();
    this.rig.driver.virtio.set('device_status', 0);
    runner.drain();
    assert.equal(this.rig.driver.virtio.get('device_status'), 0, 'a reset ends');
    this.rig.driver = this.rig.start();
    this.rig.fn.interrupts = null;
    return this.rig.driver;
  }

  private command(queue: number, { kind, length, words, entries }: Valued<typeof command>) {
    const [type, layout] = COMMANDS[kind];
    const bytes = Buffer.alloc(layout.sizeof + 16 * entries.length);
    let next = 0;
    for (const field of Object.values(layout.fields) as { offset: number; size: number }[]) {
      if (field.offset < abi.virtio_gpu_ctrl_hdr.sizeof) continue;
      const count = field instanceof BytesField ? field.size / 4 : 1;
      for (let i = 0; i < count; i++) bytes.writeUInt32LE(words[next++ % words.length], field.offset + 4 * i);
    }
    for (const [i, [address, size]] of entries.entries()) {
      bytes.writeUInt32LE(address, layout.sizeof + 16 * i);
      bytes.writeUInt32LE(size, layout.sizeof + 16 * i + 8);
    }
    this.send(queue, type, bytes, length);
  }

  private send(queue: number, type: number, bytes: Buffer, length = -1): void {
    abi.virtio_gpu_ctrl_hdr.write(viewOf(bytes), 0, { type });
    const sent = length < 0 ? bytes : bytes.subarray(0, length);
    this.rig.rings.write(REQUESTS, sent);
    this.rig.rings.write(RESPONSES, new Uint8Array(abi.virtio_gpu_ctrl_hdr.sizeof));
    const { virtio } = this.rig.driver;
    virtio.describe(queue, 0, REQUESTS, sent.length, 1);
    virtio.describe(queue, 1, RESPONSES, 0x800, 2);
    virtio.offer(queue, 0);
    virtio.kick(queue);
    runner.drain();
    const answer = new Uint8Array(4);
    this.rig.rings.read(RESPONSES, answer);
    this.answers.add(viewOf(answer).getUint32(0, true));
  }

  private chain(queue: number, descriptors: readonly Valued<typeof descriptor>[], head: number, ahead: number) {
    const { rings, driver } = this.rig;
    const at = queue * QUEUE_BYTES;
    for (const [i, one] of descriptors.entries()) {
      rings.write(at + i * vring_desc.sizeof, vring_desc.encode({ ...one, addr: RINGS + one.addr }));
    }
    const own = driver.virtio.queues[queue];
    rings.write(
      at + AVAILABLE + vring_avail.sizeof + 2 * (own.available % own.size),
      Uint8Array.of(head & 0xff, head >> 8),
    );
    own.available = (own.available + ahead) & 0xffff;
    rings.write(at + AVAILABLE + 2, Uint8Array.of(own.available & 0xff, own.available >> 8));
    driver.virtio.kick(queue);
  }

  private *picture(screen: number) {
    try {
      const { width, height, pixels } = yield* this.rig.gpu.picture(screen);
      assert.equal(pixels.length, width * height * 4);
    } catch (error) {
      assert.ok(
        error instanceof Errno && ['EINVAL', 'EIO', 'ENODATA', 'ECANCELED'].includes(error.code),
        String(error),
      );
    }
  }
}

test('whatever a driver does, the device answers or stops, and works after a reset', () => {
  const answers = new Set<number>();
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 30 }), (steps) => {
      const hostile = new Hostile(answers);
      for (const one of steps) hostile.take(one);
      const driver = hostile.restart();
      const { rig } = hostile;
      assert.equal(rig.gpu.resources.size, 0);
      const bytes = Uint8Array.of(1, 2, 3, 4);
      rig.pixels.write(0, bytes);
      rig.fn.interrupts = { msi: (vector) => driver.virtio.onInterrupt(vector - 1), intx: () => {} };
      assert.equal(rig.run(driver.createBlob(1, 4, [{ address: PIXELS, length: 4 }])), abi.VIRTIO_GPU_RESP_OK_NODATA);
      const format = abi.VIRTIO_GPU_FORMAT_R8G8B8X8_UNORM;
      assert.equal(rig.run(driver.setScanoutBlob(0, 1, format, [0, 0, 1, 1], 4)), abi.VIRTIO_GPU_RESP_OK_NODATA);
      assert.deepEqual(rig.run(rig.gpu.picture(0)).pixels, Uint8Array.of(1, 2, 3, 0xff));
      assert.ok((driver.virtio.get('device_status') & VIRTIO_CONFIG_S_DRIVER_OK) !== 0);
    }),
    { numRuns: RUNS, includeErrorInReport: true },
  );
  // The driver reaches deep enough: each kind of answer was seen.
  for (const answer of [
    abi.VIRTIO_GPU_RESP_OK_NODATA,
    abi.VIRTIO_GPU_RESP_OK_EDID,
    abi.VIRTIO_GPU_RESP_ERR_UNSPEC,
    abi.VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID,
    abi.VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID,
    abi.VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER,
  ]) {
    assert.ok(answers.has(answer), `0x${answer.toString(16)} was never answered`);
  }
});
