/** vfio_set_irqs_validate_and_prepare: the valid requests for an index with some interrupts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { IrqData, noAction } from '../../../src/vfio/irqs/irq-data.ts';

test('a block lies within the interrupts that there are, the start of an empty one too', () => {
  fc.assert(
    fc.property(fc.nat(4), fc.nat(5), fc.nat(5), (max, start, count) => {
      const make = () => new IrqData(0x21, max, start, count, new Uint8Array(0));
      if (start < max && start + count <= max) assert.equal(make().disables, count === 0);
      else assert.throws(make, { code: 'EINVAL' });
    }),
  );
});

test('unknown bits, two types of data, no type, and missing bytes are EINVAL', () => {
  const bytes = new Uint8Array(8);
  for (const flags of [0x41, 0x100, 0x20, 0x23, 0x26, 0x27]) {
    assert.throws(() => new IrqData(flags, 4, 0, 2, bytes), { code: 'EINVAL' }, `0x${flags.toString(16)}`);
  }
  assert.throws(() => new IrqData(0x24, 4, 0, 2, bytes.subarray(1)), { code: 'EINVAL' });
  assert.throws(() => new IrqData(0x22, 4, 0, 2, bytes.subarray(7)), { code: 'EINVAL' });
  new IrqData(0x22, 4, 0, 2, bytes.subarray(6));
  assert.equal(noAction(3, 8).code, 'ENOTTY');
});

test('what each interrupt of a block brings, at whatever offset the bytes lie', () => {
  const bytes = Buffer.alloc(9);
  bytes.writeInt32LE(-5, 1);
  bytes.writeInt32LE(1234, 5);
  const fds = new IrqData(0x24, 4, 1, 2, bytes.subarray(1));
  assert.deepEqual([fds.fd(0), fds.fd(1), fds.isEventfd, fds.isBool], [-5, 1234, true, false]);
  const bools = new IrqData(0x22, 4, 1, 2, Uint8Array.of(0, 7));
  assert.deepEqual([bools.chooses(0), bools.chooses(1), bools.isBool], [false, true, true]);
  assert.equal(new IrqData(0x21, 4, 1, 2, bytes).chooses(1), true);
});
