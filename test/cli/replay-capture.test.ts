/** `barter replay CAPTURE --to SOCKET`: to the same machine, to another one, and with wrong inputs. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { ReplayDifference } from '../../src/vfio-user/exchange/replay.ts';
import type { TappedMessage } from '../../src/vfio-user/wire/tap.ts';
import { captureFile } from '../report/capture-file.ts';
import { message } from '../vfio-user/raw-client.ts';
import { said } from '../vfio-user/said.ts';
import { parseTranscript } from '../vfio-user/transcript.ts';
import { barter, endOf, startBarter } from './barter.ts';
import { converse } from './converse.ts';

const MACHINE = 'examples/two-peers.yaml';
const folder = mkdtempSync(join(tmpdir(), 'barter-replay-'));
const inFolder = (name: string) => join(folder, name);
const captured = inFolder('peers.pcapng');

before(async () => {
  const { child } = await startBarter('serve', MACHINE, '--socket-dir', inFolder('first'), '--pcap', captured);
  converse(inFolder('first/lender.sock'), inFolder('first/borrower.sock'));
  assert.equal(await endOf(child, 'SIGTERM'), 0);
});
after(() => rmSync(folder, { recursive: true, force: true }));

interface Replayed {
  ok: boolean;
  device: string;
  commands: number;
  replies: number;
  differences: ReplayDifference[];
  end: string | null;
  isCut: boolean;
}

function replayed(...args: string[]): Replayed {
  const { status, stdout, stderr } = barter('replay', ...args, '--json');
  assert.equal(stderr, '');
  const document = JSON.parse(stdout) as Replayed;
  assert.equal(status, document.ok ? 0 : 1);
  return document;
}

async function serving(machine: string, body: (folder: string) => void): Promise<void> {
  const sockets = mkdtempSync(inFolder('sockets-'));
  const { child } = await startBarter('serve', machine, '--socket-dir', sockets);
  try {
    body(sockets);
  } finally {
    assert.equal(await endOf(child, 'SIGTERM'), 0);
  }
}

function fileOf(name: string, messages: readonly Partial<TappedMessage>[]): string {
  const whole = messages.map(({ bytes = Buffer.alloc(0), ...more }) => said(bytes, more));
  writeFileSync(inFolder(name), captureFile(whole));
  return inFolder(name);
}

test('a machine of the same kind gives the same replies', () =>
  serving(MACHINE, (sockets) => {
    const to = ['--device', 'lender', '--to', join(sockets, 'lender.sock')];
    const { differences, end, commands, replies } = replayed(captured, ...to);
    assert.deepEqual([differences, end, commands, replies], [[], null, 3, 3]);
    const { status, stdout } = barter('replay', captured, ...to);
    assert.equal(status, 0);
    assert.equal(stdout, 'lender: 3 commands said, 3 replies compared.\nThe replies are the same.\n');
  }));

test('a DMA that depends on memory that is not in the capture is a difference', () =>
  serving(MACHINE, (sockets) => {
    // The engine reads its descriptors from a memfd, and that of the replay is empty.
    const { differences } = replayed(captured, '--device', 'borrower', '--to', join(sockets, 'borrower.sock'));
    assert.ok(differences.some(({ field, was }) => field === 'DMA' && was === 'DMA_READ addr=0x10000 count=100'));
  }));

test('the transcripts of QEMU, said to the machine that it attached, have the same replies', () =>
  serving('test/vfio-user/golden/machine.yaml', (sockets) => {
    const kinds = { memfd: 'file', eventfd: 'eventfd' } as const;
    const notes = (fds: readonly string[]) =>
      fds.map((text) => {
        const [kind, size] = text.split(' ');
        return { kind: kinds[kind as keyof typeof kinds], sizeBytes: Number(size ?? 0) };
      });
    for (const device of ['engine', 'lender']) {
      const path = fileURLToPath(new URL(`../vfio-user/golden/qemu-${device}.txt`, import.meta.url));
      const exchanges = parseTranscript(readFileSync(path, 'utf8'));
      const file = fileOf(
        `${device}.pcapng`,
        exchanges.flatMap(({ command, reply }) => [
          { device, bytes: command.bytes, fds: notes(command.fds) },
          ...(reply === null ? [] : [{ device, bytes: reply.bytes, fds: notes(reply.fds), isSent: true }]),
        ]),
      );
      const { commands, replies, differences, end } = replayed(file, '--to', join(sockets, `${device}.sock`));
      assert.deepEqual([differences, end], [[], null], device);
      assert.deepEqual([commands, replies], [exchanges.length, exchanges.filter(({ reply }) => reply !== null).length]);
    }
  }));

test('another machine gives other replies: each is a difference, unless it may differ', () =>
  serving('test/vfio-user/golden/machine.yaml', (sockets) => {
    const to = ['--device', 'borrower', '--to', join(sockets, 'lender.sock')];
    const { ok, differences } = replayed(captured, ...to);
    assert.equal(ok, false);
    const fields = new Set(differences.map(({ field, message: name }) => `${name.split(' ')[0]}.${field}`));
    assert.ok(fields.size > 0);
    const { status, stdout } = barter('replay', captured, ...to);
    assert.equal(status, 1);
    assert.match(stdout, /\n {2}connection \d+, exchange \d+, [A-Z_]+.*: \S.* was \S.*, is \S/);
    assert.match(stdout, /\nThe replies differ: \d+ differences\.\n$/);
    const left = replayed(captured, ...to, '--ignore', ...fields);
    assert.deepEqual(left.differences, []);
  }));

test('a reply that is missing, an errno and a DMA that does not come are differences', () =>
  serving(MACHINE, (sockets) => {
    const version = { bytes: message({ id: 1, command: 1 }, Buffer.from('\0\0\0\0{"capabilities":{}}\0')) };
    const dma = Buffer.alloc(16, 1);
    const file = fileOf('odd.pcapng', [
      version,
      { bytes: message({ id: 7, command: 11 }, dma), isSent: true },
      { bytes: message({ id: 2, command: 13 }) },
      { bytes: message({ id: 2, command: 13, flags: 0x21, error: 16 }), isSent: true },
    ]);
    const { commands, replies, differences } = replayed(file, '--to', join(sockets, 'lender.sock'));
    assert.deepEqual([commands, replies], [2, 1]);
    assert.deepEqual(
      differences.map(({ exchange, field, was, is }) => [exchange, field, was.split(' ')[0], is]),
      [
        [1, 'DMA', 'DMA_READ', 'nothing'],
        [2, 'errno', 'EBUSY', 'ok'],
      ],
    );
  }));

test('a cut file is said as far as it goes', () =>
  serving(MACHINE, (sockets) => {
    const bytes = readFileSync(captured);
    writeFileSync(inFolder('cut.pcapng'), bytes.subarray(0, bytes.length - 50));
    const args = [inFolder('cut.pcapng'), '--device', 'lender', '--to', join(sockets, 'lender.sock')];
    const { isCut, differences, commands } = replayed(...args);
    assert.deepEqual([isCut, differences, commands], [true, [], 3]);
    assert.match(
      barter('replay', ...args).stdout,
      /^\S+cut\.pcapng ends in the middle of a message; the messages before/,
    );
  }));

test('wrong inputs get one line, with the next step', async () => {
  // A socket that listens. Nobody answers on it, and no case gets as far.
  const deaf = inFolder('deaf.sock');
  const server = createServer().listen(deaf);
  await once(server, 'listening');
  writeFileSync(inFolder('plain.json'), '{}');
  const foreign = readFileSync(captured);
  // The link type of the first interface.
  foreign.writeUInt16LE(1, foreign.readUInt32LE(4) + 8);
  writeFileSync(inFolder('foreign.pcapng'), foreign);
  const nobody = fileOf('nobody.pcapng', [{ kind: 'dma-buf', bytes: message({ command: 1 }) }]);
  const lender = ['--device', 'lender'];
  for (const [args, text] of [
    [[captured], /peers\.pcapng is a capture: name a vfio-user server by --to SOCKET/],
    [
      [inFolder('plain.json'), '--to', deaf],
      /plain\.json is not a capture of barter serve --pcap: it does not begin as a pcapng/,
    ],
    [
      [inFolder('foreign.pcapng'), '--to', deaf],
      /not a capture of barter serve --pcap: the interface at byte \d+ is not of link/,
    ],
    [[inFolder('absent'), '--to', deaf], /absent cannot be read: there is no such file or folder/],
    [[captured, '--to', deaf], /has several devices; choose one by --device: lender, borrower/],
    [[captured, '--device', 'engine', '--to', deaf], /there is no device engine; there are: lender, borrower/],
    [
      [captured, ...lender, '--to', inFolder('no.sock')],
      /no\.sock: there is no such socket; start the server that makes it/,
    ],
    [
      [captured, ...lender, '--to', inFolder('plain.json')],
      /plain\.json: this is not a socket; name the one that a server listens on/,
    ],
    [[captured, ...lender, '--to', deaf, '--html', 'y'], /--html and --stacks do not go with --to/],
    [[inFolder('plain.json'), ...lender], /--device and --ignore go with --to SOCKET/],
    [[nobody, '--to', deaf], /nobody\.pcapng has no client's messages; there is nothing to say again/],
  ] as [string[], RegExp][]) {
    const { status, stdout, stderr } = barter('replay', ...args);
    assert.deepEqual([status, stdout], [2, ''], stderr);
    assert.match(stderr, text);
    assert.equal(stderr.trimEnd().split('\n').length, 1, stderr);
  }
  server.close();
});
