/** The rules of queues, kept and broken: what a device takes, what stops it, and that no chain is lost. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  VIRTIO_CONFIG_S_NEEDS_RESET,
  VIRTIO_RING_F_EVENT_IDX,
  VIRTIO_RING_F_INDIRECT_DESC,
  VRING_DESC_F_INDIRECT,
  VRING_DESC_F_NEXT,
  VRING_DESC_F_WRITE,
  vring_desc,
} from '../../../src/abi/virtio.ts';
import * as abi from '../../../src/abi/virtio_gpu.ts';
import { runner } from '../../../src/task/runner.ts';
import { GpuRig, RINGS } from '../virtio-gpu-rig.ts';

/** Room in the driver's memory that its own requests do not use. */
const FREE = 0x8000;
const REQUEST = FREE;
const RESPONSE = FREE + 0x400;
const TABLE = FREE + 0x800;

function withRequest(features: readonly number[] = []): GpuRig {
  const rig = new GpuRig('', features);
  rig.rings.write(REQUEST, abi.virtio_gpu_ctrl_hdr.encode({ type: abi.VIRTIO_GPU_CMD_GET_DISPLAY_INFO }));
  rig.fn.interrupts = null;
  return rig;
}

const isBroken = (rig: GpuRig): boolean => (rig.driver.virtio.get('device_status') & VIRTIO_CONFIG_S_NEEDS_RESET) !== 0;

function offer(rig: GpuRig, ...heads: number[]): void {
  for (const head of heads) rig.driver.virtio.offer(0, head);
  rig.driver.virtio.kick(0);
  runner.drain();
}

/** Writes a table of descriptors elsewhere in the driver's memory. */
function table(rig: GpuRig, descriptors: { addr: number; len: number; flags: number; next?: number }[]): number {
  rig.rings.write(TABLE, Buffer.concat(descriptors.map((one) => vring_desc.encode(one))));
  return descriptors.length * vring_desc.sizeof;
}

test('a request in many small buffers, and a response across several', () => {
  const rig = withRequest();
  const { virtio } = rig.driver;
  for (let i = 0; i < 24; i++) virtio.describe(0, i, REQUEST + i, 1, VRING_DESC_F_NEXT);
  virtio.describe(0, 24, RESPONSE, 100, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT);
  virtio.describe(0, 25, RESPONSE + 100, 308, VRING_DESC_F_WRITE);
  offer(rig, 0);
  assert.deepEqual(virtio.takeUsed(0), [{ id: 0, len: 408 }]);
});

test('an indirect table, alone or after other buffers', () => {
  const rig = withRequest([VIRTIO_RING_F_INDIRECT_DESC]);
  const { virtio } = rig.driver;
  const both = [
    { addr: RINGS + REQUEST, len: 24, flags: VRING_DESC_F_NEXT, next: 1 },
    { addr: RINGS + RESPONSE, len: 408, flags: VRING_DESC_F_WRITE },
  ];
  virtio.describe(0, 0, TABLE, table(rig, both), VRING_DESC_F_INDIRECT);
  offer(rig, 0);
  assert.deepEqual(virtio.takeUsed(0), [{ id: 0, len: 408 }]);
  virtio.describe(0, 1, REQUEST, 24, VRING_DESC_F_NEXT);
  virtio.describe(0, 2, TABLE, table(rig, both.slice(1)), VRING_DESC_F_INDIRECT);
  offer(rig, 1);
  assert.deepEqual(virtio.takeUsed(0), [{ id: 1, len: 408 }]);
  assert.equal(isBroken(rig), false);
});

test('a response that finds no room is left out, and the chain comes back', () => {
  const rig = withRequest();
  rig.driver.virtio.describe(0, 0, REQUEST, 24, VRING_DESC_F_NEXT);
  rig.driver.virtio.describe(0, 1, RESPONSE, 23, VRING_DESC_F_WRITE);
  rig.driver.virtio.describe(0, 2, REQUEST, 24, 0);
  offer(rig, 0, 2);
  assert.deepEqual(rig.driver.virtio.takeUsed(0), [
    { id: 0, len: 0 },
    { id: 2, len: 0 },
  ]);
});

const W = VRING_DESC_F_WRITE;
const N = VRING_DESC_F_NEXT;
const I = VRING_DESC_F_INDIRECT;
const BAD: [string, RegExp, (rig: GpuRig) => number][] = [
  ['a chain that loops', /without end/, (rig) => chain(rig, [REQUEST, 24, N, 0])],
  ['a next descriptor outside', /descriptor 64 of a table of 64/, (rig) => chain(rig, [REQUEST, 24, N, 64])],
  ['a head outside', /descriptor 900 of a table of 64/, () => 900],
  [
    'a buffer to read after one to write',
    /read after/,
    (rig) => chain(rig, [REQUEST, 24, W | N, 1], [REQUEST, 24, 0, 0]),
  ],
  ['an unmapped buffer', /a buffer of a chain.*iommu-fault/, (rig) => chain(rig, [0x4000_0000, 24, 0, 0])],
  ['an indirect table with a next descriptor', /and a next/, (rig) => chain(rig, [TABLE, 32, I | N, 1])],
  ['an indirect table of odd size', /table of 31 bytes/, (rig) => chain(rig, [TABLE, 31, I, 0])],
  ['an empty indirect table', /table of 0 bytes/, (rig) => chain(rig, [TABLE, 0, I, 0])],
  [
    'an indirect table in an indirect table',
    /in an indirect table/,
    (rig) => {
      table(rig, [{ addr: RINGS + TABLE, len: 16, flags: I }]);
      return chain(rig, [TABLE, 16, I, 0]);
    },
  ],
  [
    'a loop in an indirect table',
    /without end/,
    (rig) => {
      table(rig, [{ addr: RINGS + REQUEST, len: 24, flags: N, next: 0 }]);
      return chain(rig, [TABLE, 2 ** 32 - 16, I, 0]);
    },
  ],
];

function chain(rig: GpuRig, ...descriptors: [offset: number, len: number, flags: number, next: number][]): number {
  for (const [i, [offset, len, flags, next]] of descriptors.entries()) {
    rig.driver.virtio.describe(0, i, offset, len, flags, next);
  }
  return 0;
}

for (const [what, reason, make] of BAD) {
  test(`${what} stops the device until it is reset`, () => {
    const rig = withRequest([VIRTIO_RING_F_INDIRECT_DESC]);
    const vectors: number[] = [];
    rig.fn.interrupts = { msi: (vector) => vectors.push(vector), intx: () => {} };
    rig.driver.virtio.set('msix_config', 0);
    offer(rig, make(rig));
    assert.ok(isBroken(rig));
    assert.match(rig.broken.join(), reason);
    assert.deepEqual(vectors, [0], 'the driver is told by the configuration vector');
    offer(rig, 0);
    assert.deepEqual(rig.driver.virtio.takeUsed(0), [], 'nothing is done any more');
    rig.driver.virtio.set('device_status', 0);
    assert.equal(isBroken(rig), false);
  });
}

test('an indirect table that was not negotiated, and more chains than there can be, stop the device', () => {
  const plain = withRequest();
  offer(plain, chain(plain, [TABLE, 32, I, 0]));
  assert.match(plain.broken.join(), /not negotiated/);
  const many = withRequest();
  many.driver.virtio.queues[0].available = 1000;
  offer(many, 0);
  assert.match(many.broken.join(), /1001 chains are available in a queue of 64/);
});

test('every chain of any size comes back once, in order, with and without event indexes', () => {
  const sizes = fc.array(fc.integer({ min: 1, max: 8 }), { minLength: 1, maxLength: 200 });
  const property = fc.property(sizes, fc.boolean(), (batches, hasEvents) => {
    const rig = withRequest(hasEvents ? [VIRTIO_RING_F_EVENT_IDX] : []);
    const { virtio } = rig.driver;
    for (let i = 0; i < 64; i += 2) {
      virtio.describe(0, i, REQUEST, 24, VRING_DESC_F_NEXT);
      virtio.describe(0, i + 1, RESPONSE, 408, VRING_DESC_F_WRITE);
    }
    let next = 0;
    for (const count of batches) {
      const heads = Array.from({ length: count }, () => 2 * (next++ % 32));
      offer(rig, ...heads);
      assert.deepEqual(
        virtio.takeUsed(0).map(({ id }) => id),
        heads,
      );
    }
  });
  fc.assert(property, { numRuns: 20 });
});

/** A driver that writes anything anywhere in its queues. The device ends each run, and a reset brings it back. */
test('a hostile driver cannot end or stall the device', () => {
  const word = fc.oneof(fc.integer({ min: 0, max: 70 }), fc.integer({ min: 0, max: 0xffff }));
  const address = fc.oneof(
    fc.constantFrom(REQUEST, RESPONSE, TABLE, 0, 0x1000, 0x2000, -RINGS, 2 ** 40, 2 ** 52 - RINGS),
    fc.integer({ min: 0, max: 0x4000 }),
  );
  const length = fc.oneof(fc.integer({ min: 0, max: 600 }), fc.constantFrom(0xffff_fff0, 0xffff_ffff, 0x10_0000));
  const descriptor = fc.record({ at: address, len: length, flags: fc.integer({ min: 0, max: 9 }), next: word });
  const request = fc.record({
    type: fc.oneof(fc.integer({ min: 0x100, max: 0x10d }), fc.integer({ min: 0x300, max: 0x301 }), word),
    words: fc.array(fc.oneof(word, fc.constantFrom(0xffff_ffff, 0x8000_0000, RINGS, 1, 2)), { maxLength: 20 }),
  });
  const round = fc.record({
    queue: fc.integer({ min: 0, max: 1 }),
    descriptors: fc.array(descriptor, { maxLength: 8 }),
    request,
    heads: fc.array(word, { maxLength: 6 }),
    jump: fc.oneof(fc.constant(0), word),
    reset: fc.boolean(),
  });
  const property = fc.property(fc.array(round, { maxLength: 12 }), (rounds) => {
    const rig = withRequest([VIRTIO_RING_F_INDIRECT_DESC, VIRTIO_RING_F_EVENT_IDX]);
    const { virtio } = rig.driver;
    for (const { queue, descriptors, request, heads, jump, reset } of rounds) {
      for (const [i, { at, len, flags, next }] of descriptors.entries()) {
        virtio.describe(queue, i, at, len, flags, next);
        rig.rings.write(TABLE + 16 * i, vring_desc.encode({ addr: Math.max(0, RINGS + at), len, flags, next }));
      }
      const bytes = Buffer.concat([abi.virtio_gpu_ctrl_hdr.encode({ type: request.type }), Buffer.alloc(80)]);
      for (const [i, value] of request.words.entries()) bytes.writeUInt32LE(value, 24 + 4 * i);
      rig.rings.write(REQUEST, bytes);
      for (const head of heads) virtio.offer(queue, head);
      virtio.queues[queue].available = (virtio.queues[queue].available + jump) & 0xffff;
      virtio.kick(queue);
      runner.drain();
      if (reset) virtio.set('device_status', 0);
    }
    virtio.set('device_status', 0);
    assert.equal(virtio.get('device_status'), 0);
    assert.ok(virtio.start([32, 33]));
    rig.fn.interrupts = { msi: (vector) => virtio.onInterrupt(vector - 1), intx: () => {} };
    assert.equal(rig.run(rig.driver.create2d(1, 1, 8, 8)), abi.VIRTIO_GPU_RESP_OK_NODATA);
  });
  fc.assert(property, { numRuns: 150 });
});
