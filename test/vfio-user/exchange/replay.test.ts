/** A replay to a server that says what the test wants. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ReplayResult, replayTo } from '../../../src/vfio-user/exchange/replay.ts';
import { devicesOf, scriptOf } from '../../../src/vfio-user/exchange/replay-script.ts';
import type { TappedMessage } from '../../../src/vfio-user/wire/tap.ts';
import { message } from '../raw-client.ts';
import { type ScriptedReply, type SeenMessage, version, withScript } from '../scripted-server.ts';

const said = (bytes: Buffer, isSent: boolean, kind: TappedMessage['kind'] = 'vfio-user'): TappedMessage => {
  return { atMs: 1, kind, device: 'lender', connection: 4, pid: 7, isSent, fds: [], bytes };
};

/** Address 0x1000, 4 bytes. */
const DMA = Buffer.concat([Buffer.from([0, 16, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0])]);
const ASKS_TWIN = JSON.stringify({ capabilities: { max_msg_fds: 1, twin_socket: { supported: true } } });
const VERSION = Buffer.from(`\0\0\0\0${ASKS_TWIN}\0`);

/** A client with a twin socket that resets the device, which reads its memory meanwhile. */
const RECORDED: TappedMessage[] = [
  said(message({ id: 1, command: 1 }, VERSION), false),
  said(message({ id: 1, command: 1, flags: 1 }, VERSION), true),
  said(message({ id: 1, command: 11 }, DMA), true, 'twin'),
  said(message({ id: 1, command: 11, flags: 1 }, Buffer.concat([DMA, Buffer.from('data')])), false, 'twin'),
  said(message({ id: 2, command: 13 }), false),
  said(message({ id: 2, command: 13, flags: 1 }), true),
  said(message({ id: 3, command: 5 }), false, 'dma-buf'),
];

async function replayed(...replies: ScriptedReply[]): Promise<{ result: ReplayResult; seen: SeenMessage[] }> {
  let result: ReplayResult | undefined;
  const seen = await withScript([version({ max_msg_fds: 1 }), ...replies], (path) => {
    result = replayTo(path, scriptOf(RECORDED, 'lender'));
  });
  return { result: result!, seen };
}

test('a DMA of the server is answered as the client did, on the one socket that the replay asks for', async () => {
  const dma = message({ id: 9, command: 11 }, DMA).toString('hex');
  const { result, seen } = await replayed({ payload: '', before: [dma] });
  // The DMA comes later than in the capture, and is missed until then.
  assert.deepEqual(
    result.differences.filter(({ field }) => field !== 'DMA'),
    [],
  );
  assert.deepEqual([result.commands, result.replies, result.end], [2, 2, null]);
  assert.deepEqual(
    seen.map(({ command, isReply }) => [command, isReply]),
    [
      [1, false],
      [13, false],
      [11, true],
    ],
  );
  assert.equal(Buffer.from(seen[0].payload, 'hex').toString(), '\0\0\0\0{"capabilities":{"max_msg_fds":1}}\0');
});

test('a DMA in its place is no difference; another address is one, and gets EIO', async () => {
  const dma = (payload: Buffer) => message({ id: 9, command: 11 }, payload).toString('hex');
  const right = await withDmaAfterVersion(dma(DMA));
  assert.deepEqual(right.result.differences, []);
  assert.equal(Buffer.from(right.seen[1].payload, 'hex').subarray(16).toString(), 'data');
  const other = Buffer.from(DMA);
  other[1] = 32;
  const wrong = await withDmaAfterVersion(dma(other));
  assert.deepEqual(
    wrong.result.differences.map(({ field, was, is }) => [field, was, is]),
    [
      ['DMA', 'nothing', 'DMA_READ addr=0x2000 count=4'],
      ['DMA', 'DMA_READ addr=0x1000 count=4', 'nothing'],
    ],
  );
  assert.equal(wrong.seen[1].payload, '');
});

/** The server's command goes out before its reply to VERSION, and so before the replay needs it. */
function withDmaAfterVersion(dma: string): Promise<{ result: ReplayResult; seen: SeenMessage[] }> {
  let result: ReplayResult | undefined;
  const replies = [{ ...version({ max_msg_fds: 1 }), before: [dma] }, { payload: '' }];
  return withScript(replies, (path) => {
    result = replayTo(path, scriptOf(RECORDED, 'lender'));
  }).then((seen) => ({ result: result!, seen }));
}

test('a server that hangs up, or answers another message, ends the replay with the exchange', async () => {
  const { result } = await replayed({ payload: '', cutAt: 3 });
  assert.match(result.end ?? '', /^connection 4, exchange 2: ECONNRESET: .*in the middle of a message/);
  assert.equal(result.commands, 1);
  const other = await replayed({ payload: '', idOffset: 5 });
  assert.match(other.result.end ?? '', /exchange 2: EPROTO: a reply to message 7, and 2 was asked/);
});

test('the script has the clients of one device, without importers', () => {
  assert.deepEqual(devicesOf(RECORDED), ['lender']);
  assert.deepEqual(scriptOf(RECORDED, 'borrower'), []);
  const [{ connection, commands, serverCommands }] = scriptOf(RECORDED, 'lender');
  assert.deepEqual([connection, commands.length, serverCommands.length], [4, 2, 1]);
  assert.deepEqual(
    commands.map(({ afterServerCommands, reply }) => [afterServerCommands, reply !== null]),
    [
      [0, true],
      [1, true],
    ],
  );
});
