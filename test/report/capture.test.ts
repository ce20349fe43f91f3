/** Tapped messages as packets of a capture, and back. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import type { FdNote } from '../../src/linux/fd-note.ts';
import { CaptureEncoder, decodeCapture } from '../../src/report/capture.ts';
import { MAX_PACKET_BYTES } from '../../src/report/pcapng.ts';
import type { TappedMessage } from '../../src/vfio-user/wire/tap.ts';
import { captureFile } from './capture-file.ts';
import { packetFields, skip } from './tshark.ts';

const folder = mkdtempSync(join(tmpdir(), 'barter-capture-'));
test.after(() => rmSync(folder, { recursive: true, force: true }));

const descriptor: fc.Arbitrary<FdNote> = fc
  .tuple(fc.constantFrom<FdNote['kind'][]>('other', 'file', 'eventfd', 'socket'), fc.nat(2 ** 40))
  .map(([kind, sizeBytes]) => ({ kind, sizeBytes }));
type Sized = Omit<TappedMessage, 'bytes'> & { size: number };
const sized: fc.Arbitrary<Sized> = fc.record({
  // A quarter of a millisecond survives the way through nanoseconds.
  atMs: fc.integer({ min: 1, max: 2 ** 40 }).map((quarters) => quarters / 4),
  kind: fc.constantFrom('vfio-user', 'twin', 'dma-buf'),
  device: fc.constantFrom('lender', 'two words', 'a-b'),
  connection: fc.nat(2 ** 31),
  pid: fc.nat(2 ** 22),
  isSent: fc.boolean(),
  fds: fc.array(descriptor, { maxLength: 16 }),
  // A counterexample with the bytes of a long message would fill the screen.
  size: fc.oneof(
    { weight: 9, arbitrary: fc.nat(100) },
    { weight: 1, arbitrary: fc.constantFrom(262_000, 262_128, 262_129, 262_144, 1_048_640) },
  ),
});

function tapped({ size, ...rest }: Sized): TappedMessage {
  return { ...rest, bytes: Uint8Array.from({ length: size }, (_, i) => i * 7) };
}

const comparable = (messages: readonly TappedMessage[]) =>
  messages.map(({ bytes, ...rest }) => ({ ...rest, bytes: Buffer.from(bytes).toString('base64') }));

test('a capture that is read back has the messages, with their descriptors, of any size', () => {
  fc.assert(
    fc.property(fc.array(sized, { maxLength: 6 }), (sizes) => {
      const messages = sizes.map(tapped);
      const { messages: read, isCut } = decodeCapture(captureFile(messages));
      assert.equal(isCut, false);
      assert.deepEqual(comparable(read), comparable(messages));
    }),
    { numRuns: 60 },
  );
});

test('a capture that is cut anywhere has its first messages, whole', () => {
  const messages = fc.sample(sized, { seed: 3, numRuns: 12 }).map(tapped);
  const big = { ...messages[0], bytes: new Uint8Array(3 * MAX_PACKET_BYTES) };
  const file = captureFile([...messages, big]);
  fc.assert(
    fc.property(fc.integer({ min: 4, max: file.length - 1 }), (length) => {
      const { messages: read } = decodeCapture(file.subarray(0, length));
      assert.deepEqual(comparable(read), comparable(messages).slice(0, read.length));
    }),
  );
  assert.equal(decodeCapture(file.subarray(0, file.length - 8)).isCut, true);
});

test('a message that was not written takes no interface with it', () => {
  const [first] = fc.sample(sized, { seed: 1, numRuns: 1 }).map(tapped);
  const encoder = new CaptureEncoder();
  const begin = encoder.begin('a test');
  encoder.encode(first, 0);
  const file = Buffer.concat([begin, encoder.encode(first, 1)]);
  assert.deepEqual(comparable(decodeCapture(file).messages), comparable([first]));
});

test('Wireshark takes a message of 1 MiB', { skip }, () => {
  const [first] = fc.sample(sized, { seed: 1, numRuns: 1 }).map(tapped);
  const path = join(folder, 'big.pcapng');
  writeFileSync(path, captureFile([{ ...first, fds: [], bytes: new Uint8Array(1 << 20) }]));
  const lengths = packetFields(path, 'frame.len').map(([length]) => Number(length));
  assert.equal(lengths.length, 5);
  assert.equal(
    lengths.reduce((sum, length) => sum + length - 16, 0),
    1 << 20,
  );
});

test('a capture of another version, or with a part missing, is refused with the packet', () => {
  const [first] = fc.sample(sized, { seed: 1, numRuns: 1 }).map(tapped);
  const encoder = new CaptureEncoder();
  const begin = encoder.begin('a test');
  const big = encoder.encode({ ...first, fds: [], bytes: new Uint8Array(300_000) }, 0);
  encoder.wrote(first);
  const small = encoder.encode({ ...first, fds: [] }, 0);
  const version = Buffer.from(small);
  // The packet is behind 28 bytes of its block.
  version[28] = 9;
  assert.throws(
    () => decodeCapture(Buffer.concat([begin, big, version])),
    /packet 3: version 9, kind \d; this barter knows version 1/,
  );
  // A block ends with its size.
  const onePart = big.subarray(0, big.length - big.readUInt32LE(big.length - 4));
  assert.equal(decodeCapture(Buffer.concat([begin, onePart])).isCut, true);
  assert.throws(() => decodeCapture(Buffer.concat([begin, onePart, small])), /packet 2: a part is missing/);
});
