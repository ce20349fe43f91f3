/** The stream of a device's state: another device accepts it in pieces of any size, and refuses anything else. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Bar, MemoryTarget } from '../../src/pci/bar.ts';
import { ArrayMemory } from '../../src/pci/memory.ts';
import { runner } from '../../src/task/runner.ts';
import { isMigratable, StateReader, StateWriter, stateBytes } from '../../src/vfio/migration-stream.ts';
import { configOf, opened } from './rig.ts';

const BAR_BYTES = 256 * 1024;

/** A device with a BAR of bytes, whose model saves one byte of its own. */
function rig(deviceId = 1) {
  const config = configOf([{ id: 0x01, at: 0x40, registers: { 4: 8 } }]);
  config.set(0, 4, (deviceId << 16) | 0x1b36);
  const memory = new ArrayMemory(BAR_BYTES);
  const bars = [new Bar(0, 'mem32', false, BAR_BYTES, new MemoryTarget(memory)), null, null, null, null, null];
  const { vdev, fn, read, write } = opened(config, { bars });
  runner.run(fn.quiesce());
  return { vdev, fn, memory, read, write };
}

function streamOf(vdev: ReturnType<typeof rig>['vdev']): Buffer {
  const reader = new StateReader(vdev);
  reader.stop();
  const parts: Uint8Array[] = [];
  for (;;) {
    const part = runner.run(reader.read(10_000));
    if (part.length === 0) return Buffer.concat(parts);
    parts.push(part);
  }
}

test('what is read of one device and written to another makes them the same, however it is cut', () => {
  const from = rig();
  from.memory.write(5, Uint8Array.of(1, 2, 3));
  from.memory.write(BAR_BYTES - 1, Uint8Array.of(9));
  from.write(4, 2, 0x0406);
  from.write(0x90, 4, 0x12345678);
  const stream = streamOf(from.vdev);
  assert.ok(stream.length <= stateBytes(from.vdev));
  fc.assert(
    fc.property(fc.array(fc.nat(stream.length), { maxLength: 5 }), (cuts) => {
      const to = rig();
      to.memory.write(100, Uint8Array.of(7));
      const writer = new StateWriter(to.vdev);
      const edges = [0, ...cuts.sort((a, b) => a - b), stream.length];
      for (let i = 1; i < edges.length; i++) runner.run(writer.write(stream.subarray(edges[i - 1], edges[i])));
      runner.run(writer.finish());
      const [a, b] = [new Uint8Array(BAR_BYTES), new Uint8Array(BAR_BYTES)];
      from.memory.read(0, a);
      to.memory.read(0, b);
      assert.ok(Buffer.from(a).equals(b), 'what the stream does not name is zero');
      assert.deepEqual([to.read(4, 2), to.read(0x90, 4)], [from.read(4, 2), 0x12345678]);
      assert.equal(to.vdev.mayLend(), true);
    }),
    // Nothing behind the end is not data.
    { numRuns: 20, examples: [[[stream.length]]] },
  );
});

test('while it runs, the memory is told once; what changed since, when it has stopped', () => {
  const { vdev, memory } = rig();
  memory.write(0, Uint8Array.of(1));
  const reader = new StateReader(vdev);
  const first = runner.run(reader.read(1 << 20));
  assert.ok(first.length > 64 * 1024);
  assert.equal(runner.run(reader.read(1 << 20)).length, 0);
  memory.write(128 * 1024, Uint8Array.of(2));
  reader.stop();
  const rest = runner.run(reader.read(1 << 20));
  assert.ok(rest.length > 64 * 1024 && rest.length < 128 * 1024, 'one chunk and the registers');
  const to = rig();
  const writer = new StateWriter(to.vdev);
  runner.run(writer.write(first));
  runner.run(writer.write(rest));
  runner.run(writer.finish());
  const seen = new Uint8Array(1);
  to.memory.read(128 * 1024, seen);
  assert.equal(seen[0], 2);
});

test('a stream of another kind of device, one that is cut short, and one with a flipped bit are EINVAL', () => {
  const { vdev } = rig();
  const stream = streamOf(vdev);
  const refused = (bytes: Uint8Array, deviceId = 1): void => {
    const writer = new StateWriter(rig(deviceId).vdev);
    assert.throws(
      () => {
        runner.run(writer.write(bytes));
        runner.run(writer.finish());
      },
      { code: 'EINVAL' },
    );
  };
  refused(stream, 2);
  refused(new Uint8Array(0));
  fc.assert(
    fc.property(fc.nat(stream.length - 1), fc.nat(7), (at, bit) => {
      refused(stream.subarray(0, at));
      const flipped = Buffer.from(stream);
      flipped[at] ^= 1 << bit;
      refused(flipped);
    }),
    { numRuns: 40 },
  );
  refused(Buffer.concat([stream, Uint8Array.of(0)]));
});

test('registers without a way to save them do not migrate', () => {
  const registers = { memory: null, read: () => {}, write: () => {} };
  const bars = [new Bar(0, 'mem32', false, 4096, registers), null, null, null, null, null];
  const { fn } = opened(configOf([]), { bars });
  assert.equal(isMigratable(fn), false);
  assert.equal(isMigratable(rig().fn), true);
});

test('a read brings as many bytes as it asks for while there are so many, and never more', () => {
  const { vdev, memory } = rig();
  memory.write(0, new Uint8Array(BAR_BYTES).fill(7));
  const whole = streamOf(vdev);
  for (const size of [1, 100, 65_536, 100_000]) {
    const reader = new StateReader(vdev);
    reader.stop();
    const parts: Uint8Array[] = [];
    do parts.push(runner.run(reader.read(size)));
    while (parts.at(-1)!.length === size);
    assert.ok(parts.at(-1)!.length < size);
    assert.ok(Buffer.concat(parts).equals(whole), `in pieces of ${size}`);
  }
});
