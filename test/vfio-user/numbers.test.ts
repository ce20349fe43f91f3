/** Numbers of VERSION that real peers send: 64-bit masks of page sizes, and limits that mean "none". */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Errno } from '../../src/abi/errno.ts';
import { LIMITS } from '../../src/vfio-user/wire/frame.ts';
import { decodeVersion } from '../../src/vfio-user/wire/version.ts';
import { integerOf, parseVersionJson } from '../../src/vfio-user/wire/version-json.ts';

const version = (json: string) => Buffer.from(`\0\0\0\0${json}\0`);
const said = (capabilities: string) => decodeVersion(version(`{"capabilities":{${capabilities}}}`));
const refused = (run: () => unknown) => assert.throws(run, (e) => e instanceof Errno && e.code === 'EINVAL');

test('pgsizes: masks of 64 bits, of which the lowest that both can map counts', () => {
  assert.equal(said('"pgsizes": 18446744073709547520').pageBytes, 4096);
  assert.equal(said('"pgsizes": 18446744073709551615').pageBytes, 4096);
  assert.equal(said('"pgsizes": 18446744073707454464').pageBytes, 2 ** 21);
  assert.equal(said('"pgsizes": 9223372036854779904').pageBytes, 4096, '2^63 and 2^12');
  assert.equal(said('"pgsizes": 9223372036854775808').pageBytes, 2 ** 63);
  assert.equal(said('"pgsizes": 4096.0').pageBytes, 4096);
  for (const wrong of ['2048', '0', '-4096', '18446744073709551616', '4096.5', '"4096"', 'null , "x": ]', '1e400']) {
    refused(() => said(`"pgsizes": ${wrong}`));
  }
});

test('limits: 2^64 - 1, and more, do not limit', () => {
  for (const most of ['18446744073709551615', '18446744073709552000', '9007199254740993', '1e15']) {
    const agreed = said(
      `"max_msg_fds":${most},"max_dma_maps":${most},"max_data_xfer_size":${most},"migration":{"max_bitmap_size":${most}}`,
    );
    assert.equal(agreed.maxMsgFds, LIMITS.maxMsgFds);
    assert.equal(agreed.maxDmaMaps, LIMITS.maxDmaMaps);
    assert.equal(agreed.maxDataXferBytes, LIMITS.maxDataXferBytes);
    assert.equal(agreed.migration?.maxBitmapBytes, LIMITS.maxDataXferBytes / 2);
  }
});

test('every integer of 64 bits is read exactly, and strings with digits stay what they are', () => {
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }), fc.string(), (value, text) => {
      const json = parseVersionJson(`{"n": ${value}, "s": ${JSON.stringify(`${text}17`).replaceAll('\\u0000', '')}}`);
      assert.equal(integerOf(json, 'n', 0), value);
      assert.equal(json.s, `${text}17`.replaceAll('\0', ''));
    }),
    { seed: 1 },
  );
});

test('what is not JSON is refused by name, and so is JSON without its end', () => {
  for (const text of [
    '{',
    '"',
    '[]',
    '7',
    '{"capabilities": "23"}',
    '{"capabilities": [1]}',
    '{"n": 007}',
    '{"a": "\\u00001"}',
  ]) {
    refused(() => decodeVersion(version(text)));
  }
  refused(() => decodeVersion(Buffer.from('\0\0\0\0{}')));
  assert.equal(decodeVersion(Buffer.from('\0\0\0\0')).maxMsgFds, 1, 'no JSON: the defaults');
});
