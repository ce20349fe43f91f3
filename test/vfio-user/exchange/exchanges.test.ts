/** A trace's exchanges: every command with its reply, in words. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import * as feature from '../../../src/abi/vfio-feature.ts';
import { VFIO_USER_COMMAND_NAMES } from '../../../src/abi/vfio-user.ts';
import { messageFields, messageName } from '../../../src/vfio-user/exchange/describe.ts';
import { Exchanges, type TracedExchange } from '../../../src/vfio-user/exchange/exchanges.ts';
import { FEATURES, layoutsOf } from '../../../src/vfio-user/exchange/layouts.ts';
import type { TappedMessage } from '../../../src/vfio-user/wire/tap.ts';
import { message } from '../raw-client.ts';
import { said } from '../said.ts';
import { parseTranscript } from '../transcript.ts';

function joined(...messages: TappedMessage[]): TracedExchange[] {
  const done: TracedExchange[] = [];
  const exchanges = new Exchanges((exchange) => done.push(exchange));
  for (const each of messages) exchanges.add(each);
  return done;
}

const REPLY = 1;
const NO_REPLY = 1 << 4;
const ERROR = 1 << 5;

test('a reply belongs to the command of the other side with its id; the connection counts too', () => {
  const command = (id: number, isSent: boolean, connection = 1) =>
    said(message({ id, command: 13 }), { isSent, connection });
  const reply = (id: number, isSent: boolean, atMs: number, connection = 1) =>
    said(message({ id, command: 13, flags: REPLY }), { isSent, atMs, connection });
  const done = joined(
    command(5, false),
    command(5, true),
    command(5, false, 2),
    reply(5, true, 30),
    reply(5, true, 9, 2),
    reply(5, false, 4),
  );
  assert.deepEqual(
    done.map(({ isOfServer, connection, reply }) => [isOfServer, connection, reply?.latencyMs]),
    [
      [false, 1, 30],
      [false, 2, 9],
      [true, 1, 4],
    ],
  );
});

test('an errno has its name; a command without a reply, or whose connection ends, says so', () => {
  const done = joined(
    said(message({ id: 1, command: 9, flags: NO_REPLY })),
    said(message({ id: 2, command: 9 })),
    said(message({ id: 2, command: 9, flags: REPLY | ERROR, error: 22 }), { isSent: true }),
    said(message({ id: 3, command: 13 })),
    said(Buffer.alloc(0)),
    said(message({ id: 3, command: 13, flags: REPLY }), { isSent: true }),
  );
  assert.deepEqual(
    done.map(({ message: name, reply, isUnanswered }) => [name, reply?.errno, isUnanswered]),
    [
      ['REGION_READ', undefined, false],
      ['REGION_READ', 'EINVAL', false],
      ['DEVICE_RESET', undefined, true],
    ],
  );
});

test('a peer that answers nothing takes bounded memory', () => {
  const commands = Array.from({ length: 10_000 }, (_, id) => said(message({ id, command: 13 }), { isSent: true }));
  assert.equal(joined(...commands, said(Buffer.alloc(0))).length, 4096);
});

test('every command of the protocol, and every feature of Linux, has a layout', () => {
  assert.deepEqual(
    [...VFIO_USER_COMMAND_NAMES.keys()].filter((command) => !layoutsOf('vfio-user').has(command)),
    [],
  );
  const numbers = Object.entries(feature)
    .filter(([name]) => /^VFIO_DEVICE_FEATURE_(?!MASK|GET|SET|PROBE|CLEAR_MASTER|SET_MASTER)/.test(name))
    .map(([name, number]) => [number, name.slice('VFIO_DEVICE_FEATURE_'.length)]);
  assert.deepEqual(
    numbers,
    numbers.map(([number]) => [number, FEATURES.get(number as number)?.name]),
  );
});

test('the fields of a feature are those of its struct, and its name says what is asked', () => {
  const bytes = Buffer.alloc(8 + 32);
  bytes.writeUInt32LE(40, 0);
  bytes.writeUInt32LE(feature.VFIO_DEVICE_FEATURE_DMA_BUF | feature.VFIO_DEVICE_FEATURE_GET, 4);
  bytes.writeUInt32LE(2, 8);
  bytes.writeUInt32LE(1, 20);
  bytes.writeBigUInt64LE(0x1000n, 24);
  bytes.writeBigUInt64LE(0x2000n, 32);
  const command = message({ command: 16 }, bytes);
  assert.equal(messageName('vfio-user', command), 'DEVICE_FEATURE GET DMA_BUF');
  assert.deepEqual(messageFields('vfio-user', command), {
    region_index: 2,
    open_flags: '0x0',
    flags: '0x0',
    nr_ranges: 1,
    data: '00100000000000000020000000000000',
  });
  bytes.writeUInt32LE(feature.VFIO_DEVICE_FEATURE_PROBE | 999, 4);
  assert.equal(messageName('vfio-user', message({ command: 16 }, bytes)), 'DEVICE_FEATURE PROBE feature 999');
  assert.equal(messageName('dma-buf', message({ command: 250 })), 'command 250');
});

test('each message of the transcripts of QEMU has the length that its layout says, or a rest that is shown', () => {
  for (const device of ['engine', 'lender']) {
    const path = fileURLToPath(new URL(`../golden/qemu-${device}.txt`, import.meta.url));
    for (const { command, reply } of parseTranscript(readFileSync(path, 'utf8'))) {
      const { request, reply: answer, rest, name } = layoutsOf('vfio-user').get(command.bytes.readUInt16LE(2))!;
      const check = (bytes: Buffer, sizeof: number) => {
        if (rest === 'nothing') assert.equal(bytes.length - 16, sizeof, name);
        else assert.ok(bytes.length - 16 >= sizeof, name);
      };
      check(command.bytes, request.sizeof);
      if (reply !== null && reply.bytes.readUInt32LE(12) === 0) check(reply.bytes, answer.sizeof);
    }
  }
});
