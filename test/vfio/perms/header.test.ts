/** The 64 bytes of the standard header: the bits in the user's copy, and the writable bits. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { declareHeader } from '../../../src/vfio/perms/header.ts';

test('every byte of the header', () => {
  const virt = new Uint8Array(64);
  const writable = new Uint8Array(64);
  const cleared = new Uint8Array(64);
  declareHeader({
    field: (offset, bytes, v, w) => {
      for (let i = 0; i < bytes; i++) {
        virt[offset + i] = (v >>> (8 * i)) & 0xff;
        writable[offset + i] = (w >>> (8 * i)) & 0xff;
      }
    },
    clear: (offset, bytes, bits) => {
      for (let i = 0; i < bytes; i++) cleared[offset + i] = (bits >>> (8 * i)) & 0xff;
    },
  });
  const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex', 0, 64);
  const bars = 'ff'.repeat(24);
  assert.equal(
    hex(virt),
    `ffffffff00041000${'00'.repeat(8)}${bars}${'00'.repeat(8)}ffffffffff${'00'.repeat(7)}ffff0000`,
  );
  assert.equal(
    hex(writable),
    `00000000ffff0000${'00'.repeat(4)}ffff00ff${bars}${'00'.repeat(8)}ffffffff${'00'.repeat(8)}ff000000`,
  );
  assert.equal(hex(cleared), `00000000${'0004'}${'00'.repeat(58)}`);
});
