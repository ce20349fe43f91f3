/** Decoding of the engine's descriptors, and the errors for invalid ones. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ioat_dma_descriptor } from '../../../src/abi/ioat.ts';
import { decodeDescriptor } from '../../../src/device/ioat/descriptor.ts';

function view(fields: { size?: number; ctl?: number; src_addr?: bigint; dst_addr?: bigint; next?: bigint }): DataView {
  const bytes = new Uint8Array(ioat_dma_descriptor.sizeof);
  const data = new DataView(bytes.buffer);
  const { size, ctl, src_addr, dst_addr, next } = ioat_dma_descriptor.fields;
  data.setUint32(size.offset, fields.size ?? 16, true);
  data.setUint32(ctl.offset, fields.ctl ?? 0, true);
  data.setBigUint64(src_addr.offset, fields.src_addr ?? 0x1000n, true);
  data.setBigUint64(dst_addr.offset, fields.dst_addr ?? 0x2000n, true);
  data.setBigUint64(next.offset, fields.next ?? 0x40n, true);
  return data;
}

test('a copy: where from, where to, how much, and what comes next', () => {
  const large = 2n ** 52n - 16n;
  assert.deepEqual(decodeDescriptor(view({ src_addr: large, dst_addr: 0x1_2345_6789n, ctl: 9 })), {
    source: Number(large),
    destination: 0x1_2345_6789,
    sizeBytes: 16,
    control: 9,
    next: 0x40n,
  });
});

test('operations, lengths and addresses that cannot be have a bit of CHANERR each', () => {
  const [source, destination, control, length] = [1 << 0, 1 << 1, 1 << 10, 1 << 11];
  assert.equal(decodeDescriptor(view({ ctl: 0x0100_0000 })), control);
  assert.equal(decodeDescriptor(view({ size: 0 })), length);
  assert.equal(decodeDescriptor(view({ size: (1 << 20) + 1 })), length);
  assert.equal(decodeDescriptor(view({ src_addr: 2n ** 52n - 15n })), source);
  assert.equal(decodeDescriptor(view({ dst_addr: 2n ** 64n - 1n })), destination);
  assert.notEqual(typeof decodeDescriptor(view({ size: 1 << 20 })), 'number');
});

test('a null descriptor copies nothing, whatever else it says', () => {
  const decoded = decodeDescriptor(view({ ctl: 1 << 5, size: 0, src_addr: 2n ** 60n }));
  assert.ok(typeof decoded !== 'number');
  assert.deepEqual([decoded.sizeBytes, decoded.next], [0, 0x40n]);
});
