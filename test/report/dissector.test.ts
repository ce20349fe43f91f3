/** docs/wireshark/barter-vfio-user.lua, run by tshark on captures. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { ERRNO, errnoName } from '../../src/abi/errno.ts';
import { headerOf } from '../../src/vfio-user/exchange/describe.ts';
import { FEATURES, layoutsOf } from '../../src/vfio-user/exchange/layouts.ts';
import type { SocketKind, TappedMessage } from '../../src/vfio-user/wire/tap.ts';
import { message } from '../vfio-user/raw-client.ts';
import { said } from '../vfio-user/said.ts';
import { parseTranscript } from '../vfio-user/transcript.ts';
import { captureFile } from './capture-file.ts';
import { DISSECTOR, dissected, infosOf, type Layers } from './dissected.ts';
import { withTables } from './dissector-tables.ts';
import { skip } from './tshark.ts';

const folder = mkdtempSync(join(tmpdir(), 'barter-dissector-'));
test.after(() => rmSync(folder, { recursive: true, force: true }));

function fileOf(name: string, messages: readonly TappedMessage[]): string {
  const path = join(folder, `${name}.pcapng`);
  writeFileSync(path, captureFile(messages));
  return path;
}

function dissect(name: string, messages: readonly TappedMessage[]): Layers[] {
  return dissected(fileOf(name, messages));
}

test('its tables are those of the sources', () => {
  const text = readFileSync(DISSECTOR, 'utf8');
  const right = withTables(text);
  if (process.env.BARTER_UPDATE_GOLDEN !== undefined) writeFileSync(DISSECTOR, right);
  else assert.ok(text === right, 'the layouts have changed: run this test with BARTER_UPDATE_GOLDEN=1');
});

for (const device of ['engine', 'lender']) {
  test(`every frame of QEMU's attach to ${device} is decoded, and linked with its reply`, { skip }, () => {
    const path = fileURLToPath(new URL(`../vfio-user/golden/qemu-${device}.txt`, import.meta.url));
    const exchanges = parseTranscript(readFileSync(path, 'utf8'));
    const messages = exchanges.flatMap(({ command, reply }, i) => [
      said(command.bytes, { device, atMs: 1e12 + 10 * i }),
      ...(reply === null ? [] : [said(reply.bytes, { device, isSent: true, atMs: 1e12 + 10 * i + 3 })]),
    ]);
    const frames = dissect(device, messages);
    assert.equal(frames.length, messages.length);
    for (const [i, { bytes, isSent }] of messages.entries()) {
      const { id, command, error } = headerOf(bytes);
      const frame = frames[i];
      const { name } = layoutsOf('vfio-user').get(command)!;
      assert.equal(frame.text('barter.device'), device);
      assert.equal(frame.text('vfio_user.name'), name);
      assert.equal(frame.number('vfio_user.id'), id);
      for (const fault of ['unknown', 'short', 'wrong_size', 'unasked']) {
        assert.equal(frame.has(`vfio_user.${fault}`), false, `frame ${i + 1}, ${name}: ${fault}`);
      }
      assert.equal(frame.has('vfio_user.failed'), error !== 0);
      if (isSent) {
        assert.equal(frame.number('vfio_user.response_to'), i);
        assert.ok(Math.abs(frame.number('vfio_user.response_time') - 0.003) < 1e-5);
      } else if (i + 1 < messages.length && messages[i + 1].isSent) {
        assert.equal(frame.number('vfio_user.response_in'), i + 2);
      }
    }
  });
}

/** A payload whose bytes all differ, so that a field at a wrong place shows. */
function counting(size: number): Buffer {
  return Buffer.from(Array.from({ length: size }, (_, i) => i + 1));
}

function littleEndian(bytes: Buffer): bigint {
  return bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
}

test('every command of both protocols is decoded, field by field', { skip }, () => {
  const wanted: { kind: SocketKind; command: number; isReply: boolean; prefix: string }[] = [];
  for (const kind of ['vfio-user', 'dma-buf'] as const) {
    const prefix = kind === 'dma-buf' ? 'dma_buf_socket' : 'vfio_user';
    for (const [command] of layoutsOf(kind)) {
      for (const isReply of [false, true]) wanted.push({ kind, command, isReply, prefix });
    }
  }
  const structOf = ({ kind, command, isReply }: (typeof wanted)[number]) =>
    layoutsOf(kind).get(command)![isReply ? 'reply' : 'request'];
  const frames = dissect(
    'commands',
    wanted.map((each, i) => {
      const bytes = message(
        { id: i >> 1, command: each.command, flags: each.isReply ? 1 : 0 },
        counting(structOf(each).sizeof),
      );
      return said(bytes, { kind: each.kind, isSent: each.isReply });
    }),
  );
  for (const [i, each] of wanted.entries()) {
    const struct = structOf(each);
    const payload = counting(struct.sizeof);
    const short = struct.name.replace(/^(vfio_user|dma_buf_socket)_/, '');
    assert.equal(frames[i].text(`${each.prefix}.name`), layoutsOf(each.kind).get(each.command)!.name);
    for (const [name, { offset, size }] of Object.entries(struct.fields)) {
      const bytes = payload.subarray(offset, offset + size);
      const shown = frames[i].text(`${each.prefix}.${short}.${name}`);
      // Bytes are shown as 01:02:03, numbers as their value.
      const value = shown.includes(':')
        ? littleEndian(Buffer.from(shown.replaceAll(':', ''), 'hex'))
        : BigInt.asUintN(64, BigInt(shown));
      assert.equal(value, littleEndian(bytes), `${struct.name}.${name}`);
    }
  }
});

test('a feature has its name and its fields; data behind them is shown', { skip }, () => {
  const frames = dissect(
    'features',
    [...FEATURES].map(([number, { payload }], id) => {
      const head = Buffer.alloc(8);
      head.writeUInt32LE((number | (1 << 17)) >>> 0, 4);
      return said(message({ id, command: 16 }, Buffer.concat([head, counting(payload.sizeof), Buffer.from('rest')])));
    }),
  );
  for (const [i, { name, payload }] of [...FEATURES.values()].entries()) {
    assert.equal(frames[i].text('vfio_user.feature'), `SET ${name}`);
    assert.equal(frames[i].text('vfio_user.data'), '72:65:73:74');
    const [first] = Object.keys(payload.fields);
    if (first !== undefined)
      assert.ok(frames[i].has(`vfio_user.${payload.name.replace(/^vfio_user_/, '')}.${first}`), name);
  }
});

test('errors, unknown commands, short payloads, lost commands and long messages are shown', { skip }, () => {
  const long = message({ id: 9, command: 10 }, Buffer.concat([Buffer.alloc(16), Buffer.alloc(300_000)]));
  const path = fileOf('faults', [
    said(message({ id: 1, command: 13 })),
    said(message({ id: 1, command: 13, flags: 0x21, error: ERRNO.EBUSY }), { isSent: true }),
    said(message({ id: 2, command: 77 }, Buffer.from('abc'))),
    said(message({ id: 3, command: 2 }, Buffer.from('abc'))),
    said(message({ id: 4, command: 13, flags: 1 }), { isSent: true }),
    said(message({ id: 5, command: 13, size: 99 })),
    said(long, { fds: [{ kind: 'file', sizeBytes: 4096 }] }),
    said(Buffer.alloc(0)),
  ]);
  const frames = dissected(path);
  const infos = infosOf(path);
  assert.equal(frames[1].text('vfio_user.error_no'), String(ERRNO.EBUSY));
  assert.match(infos[1], new RegExp(`^DEVICE_RESET ${errnoName(ERRNO.EBUSY)}`));
  assert.deepEqual(
    frames.map((frame) =>
      ['failed', 'unknown', 'short', 'unasked', 'wrong_size'].filter((fault) => frame.has(`vfio_user.${fault}`)),
    ),
    [[], ['failed'], ['unknown'], ['short'], ['unasked'], ['wrong_size'], [], [], []],
  );
  assert.equal(frames[6].text('barter.fd.size'), '4096');
  assert.match(infos[6], /^REGION_WRITE .*\[file\]$/);
  assert.ok(frames[7].has('barter.part'));
  assert.equal(infos[8], 'the connection ended');
});
