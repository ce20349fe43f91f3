import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { buildMachine } from '../../src/machine/build.ts';
import { parseMachine } from '../../src/machine/load.ts';
import { Vpd } from '../../src/pci/vpd.ts';
import { runner } from '../../src/task/runner.ts';

function bytesOf(vpd: Vpd, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; at += 4) bytes.writeUInt32LE(vpd.read(at) ?? 0xffffffff, at);
  return bytes;
}

test('a named device: the identifier, a checksum that makes the sum zero, and the end tag', () => {
  fc.assert(
    fc.property(fc.string({ minLength: 1, maxLength: 40, unit: 'binary-ascii' }), (name) => {
      const bytes = bytesOf(Vpd.named(name, 5), 80);
      assert.equal(bytes[0], 0x82);
      assert.equal(bytes.toString('latin1', 3, 3 + bytes.readUInt16LE(1)), name);
      const checksumAt = 3 + name.length + 6;
      assert.equal(bytes.subarray(0, checksumAt + 1).reduce((sum, byte) => sum + byte, 0) & 0xff, 0);
      assert.equal(bytes[checksumAt + 1], 0x91);
      assert.equal(bytes[checksumAt + 4 + 3 + 5], 0x78);
    }),
  );
});

test('data without an end are refused', () => {
  for (const bytes of [[], [0xff, 0xff, 0xff, 0xff], [0, 0, 0, 0], [0x82, 8, 0, 1]]) {
    const vpd = new Vpd(Uint8Array.from(bytes));
    assert.equal(vpd.read(0), null);
    assert.equal(vpd.write(0, 1), false);
  }
  assert.equal(new Vpd(Uint8Array.of(0x0b, 1, 2, 3, 0x78)).read(0), 0x0302010b);
});

test('writes are of whole dwords, and change the read-write fields alone', () => {
  const vpd = Vpd.named('x', 6);
  const before = bytesOf(vpd, 28);
  for (let at = 0; at < 28; at += 4) vpd.write(at, 0xffffffff);
  const after = bytesOf(vpd, 28);
  const changed = [...after.keys()].filter((i) => after[i] !== before[i]);
  // The resource of 9 bytes is a keyword of 3 bytes and 6 bytes after it. The keyword changes too.
  assert.deepEqual(changed, [14, 15, 16, 17, 18, 19, 20, 21, 22]);
  assert.equal(vpd.write(1, 0), false);
  assert.equal(vpd.write(0x1000, 0), false);
});

test('the registers of the hardware: an address orders a transfer, and the flag tells when it is done', () => {
  const machine = {
    machine: 'one',
    ports: [{ name: 'root', kind: 'root' }],
    devices: [
      {
        name: 'lender',
        model: 'memory',
        port: 'root',
        bars: [{ index: 0, size: '4K' }],
        capabilities: { vpd: { name: 'Barter', writableBytes: 8 } },
      },
    ],
  };
  const fn = buildMachine(parseMachine(JSON.stringify(machine), 'one.yaml')).functions.get('lender')!;
  const at = fn.config.find(3);
  runner.run(fn.configWrite(at + 2, 2, 0));
  assert.deepEqual([fn.configRead(at + 2, 2), fn.configRead(at + 4, 4)], [0x8000, 0x42000682]);
  runner.run(fn.configWrite(at + 4, 4, 0x01020304));
  runner.run(fn.configWrite(at + 2, 2, 0x8018));
  assert.equal(fn.configRead(at + 2, 2), 0x0018);
  runner.run(fn.configWrite(at + 2, 2, 0x0018));
  assert.deepEqual([fn.configRead(at + 2, 2), fn.configRead(at + 4, 4)], [0x8018, 0x01020304]);
  // A write to the data register alone starts nothing.
  runner.run(fn.configWrite(at + 4, 4, 5));
  assert.equal(fn.configRead(at + 2, 2), 0x8018);
});
