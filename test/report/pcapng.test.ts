/** pcapng files, as Wireshark's tools read them, and as they are read back. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  enhancedPacket,
  interfaceDescription,
  isCapture,
  MAX_PACKET_BYTES,
  readCapture,
  sectionHeader,
} from '../../src/report/pcapng.ts';
import { packetFields, skip, wireshark } from './tshark.ts';

const folder = mkdtempSync(join(tmpdir(), 'barter-pcapng-'));
test.after(() => rmSync(folder, { recursive: true, force: true }));

interface Said {
  interfaceId: number;
  atMs: number;
  isOutbound: boolean;
  lost: number;
  bytes: Uint8Array;
}

function fileOf(packets: readonly Said[]): Buffer {
  const names = ['lender vfio-user', 'engine twin'];
  return Buffer.concat([
    sectionHeader('a test'),
    ...names.map((name) => interfaceDescription({ name, description: `the socket ${name}` })),
    ...packets.map(enhancedPacket),
  ]);
}

const packet = fc.record({
  interfaceId: fc.nat(1),
  // Milliseconds with three digits: a double holds no more of today's time.
  atMs: fc.integer({ min: 1, max: 2 ** 42 }).map((us) => us / 1000),
  isOutbound: fc.boolean(),
  lost: fc.nat(2 ** 31),
  bytes: fc.uint8Array({ maxLength: 70 }),
});

test('tshark reads every packet: its interface, time, direction, losses and bytes', { skip }, () => {
  const packets = fc.sample(fc.array(packet, { minLength: 40, maxLength: 60 }), { seed: 7, numRuns: 1 })[0];
  packets.push({ interfaceId: 0, atMs: 1.5, isOutbound: true, lost: 0, bytes: new Uint8Array(MAX_PACKET_BYTES) });
  const path = join(folder, 'packets.pcapng');
  writeFileSync(path, fileOf(packets));
  const rows = packetFields(
    path,
    ...['frame.interface_name', 'frame.time_epoch', 'frame.packet_flags_direction', 'frame.drop_count', 'frame.len'],
  );
  assert.deepEqual(
    rows.map(([name, time, direction, lost, length]) => [
      name,
      Number(time).toFixed(6),
      Number(direction),
      Number(lost),
      Number(length),
    ]),
    packets.map(({ interfaceId, atMs, isOutbound, lost, bytes }) => [
      interfaceId === 0 ? 'lender vfio-user' : 'engine twin',
      (atMs / 1000).toFixed(6),
      isOutbound ? 2 : 1,
      lost,
      bytes.length,
    ]),
  );
  assert.match(wireshark('capinfos', path), /Capture application:\s+a test/);
  const data = packetFields(path, 'data.data').map(([hex]) => hex);
  assert.deepEqual(
    data,
    packets.map(({ bytes }) => Buffer.from(bytes).toString('hex')),
  );
});

test('a file that is read back has the packets that were written; cut anywhere, it has the first of them', () => {
  fc.assert(
    fc.property(fc.array(packet, { maxLength: 6 }), fc.double({ min: 0, max: 1, noNaN: true }), (packets, share) => {
      const file = fileOf(packets);
      assert.ok(isCapture(file));
      const whole = readCapture(file);
      assert.equal(whole.isCut, false);
      assert.deepEqual(
        whole.packets.map(({ interfaceName, atMs, bytes }) => [interfaceName, atMs.toFixed(3), bytes.toString('hex')]),
        packets.map(({ interfaceId, atMs, bytes }) => [
          ['lender vfio-user', 'engine twin'][interfaceId],
          atMs.toFixed(3),
          Buffer.from(bytes).toString('hex'),
        ]),
      );
      const cut = file.subarray(0, Math.max(4, Math.floor(share * file.length)));
      const part = readCapture(cut);
      assert.deepEqual(part.packets, whole.packets.slice(0, part.packets.length));
    }),
  );
});

test('a damaged file is refused with the place of its fault, or read; nothing else happens', () => {
  const file = fileOf([{ interfaceId: 0, atMs: 1, isOutbound: true, lost: 0, bytes: Buffer.from('abcd') }]);
  const refused = (at: number, value: number, why: RegExp) => {
    const damaged = Buffer.from(file);
    damaged.writeUInt32LE(value, at);
    assert.throws(() => readCapture(damaged), why);
  };
  const firstInterface = file.readUInt32LE(4);
  const packetAt = file.lastIndexOf(Buffer.from([6, 0, 0, 0]));
  refused(0, 0x7f454c46, /does not begin as a pcapng file does/);
  refused(8, 0x4d3c2b1a, /section at byte 0 has the other byte order/);
  refused(4, 7, /block at byte 0 has a size of 7/);
  refused(firstInterface + 8, 1, /not of link type USER0/);
  refused(packetAt + 8, 9, /unknown interface/);
  refused(packetAt + 20, 4000, /longer than its block/);
  refused(packetAt + 24, 4000, /cut short: 4 of 4000 bytes/);
  refused(file.length - 4, 16, /has two sizes/);
  fc.assert(
    fc.property(fc.nat(file.length - 1), fc.nat(255), (at, value) => {
      const damaged = Buffer.from(file);
      damaged[at] = value;
      try {
        readCapture(damaged);
      } catch (error) {
        assert.match((error as Error).message, /pcapng|byte \d+/);
      }
    }),
  );
});
