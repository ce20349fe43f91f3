/**
 * Replays QEMU's messages from an attach: each reply must be, byte for byte, the one that QEMU accepted.
 * `BARTER_UPDATE_GOLDEN=1` records anew with the lab's QEMU (barter lab prepare), and then replays the record.
 */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { createEventfd } from '../../src/linux/eventfd.ts';
import { createMemfd } from '../../src/linux/memfd.ts';
import { loadMachine } from '../../src/machine/load.ts';
import { InProcessServer } from './in-process.ts';
import { RawClient } from './raw-client.ts';
import { isPosted, kindOf, parseTranscript, type RecordedExchange } from './transcript.ts';

const pathOf = (file: string) => fileURLToPath(new URL(`golden/${file}`, import.meta.url));
const machine = loadMachine(pathOf('machine.yaml'));

before(async () => {
  if (process.env.BARTER_UPDATE_GOLDEN === undefined) return;
  const { recordQemu } = await import('./record-qemu.ts');
  for (const [name, text] of await recordQemu(machine)) writeFileSync(pathOf(`qemu-${name}.txt`), text);
});

/** Makes another descriptor of the kind. */
function descriptor(kind: string): { fd: number; close(): void } {
  if (kind === 'eventfd') return createEventfd();
  const memfd = /^memfd (\d+)$/.exec(kind);
  assert.ok(memfd, `a descriptor of kind ${kind}`);
  return createMemfd('test', Number(memfd[1]));
}

function play(server: InProcessServer, client: RawClient, { command, reply }: RecordedExchange, at: number): void {
  const fds = command.fds.map(descriptor);
  client.send(
    command.bytes,
    fds.map((fd) => fd.fd),
  );
  for (const fd of fds) fd.close();
  server.pump();
  const came = client.tryReceive();
  const where = `exchange ${at}, command ${command.bytes.readUInt16LE(2)}`;
  if (reply === null) {
    assert.equal(isPosted(command.bytes), true, `${where}: the transcript lacks a reply`);
    assert.equal(came, undefined, `${where}: a posted command has none`);
    return;
  }
  assert.ok(came !== null && came !== undefined, `${where}: no reply`);
  assert.equal(Buffer.concat([came.header, came.payload]).toString('hex'), reply.bytes.toString('hex'), where);
  assert.deepEqual(
    came.fds.map((fd) => kindOf(fd.fd)),
    reply.fds,
    where,
  );
  for (const fd of came.fds) fd.close();
}

for (const { name } of machine.devices) {
  test(`QEMU attaches ${name}: every reply is the one that was recorded`, () => {
    const exchanges = parseTranscript(readFileSync(pathOf(`qemu-${name}.txt`), 'utf8'));
    const commands = new Set(exchanges.map(({ command }) => command.bytes.readUInt16LE(2)));
    for (const needed of [1, 2, 4, 5, 7, 8, 9, 10, 13]) {
      assert.ok(commands.has(needed), `the transcript has no command ${needed}`);
    }
    const server = new InProcessServer(machine);
    const client = new RawClient(server.path(name));
    for (const [i, exchange] of exchanges.entries()) play(server, client, exchange, i);
    client.close();
    server.close();
  });
}
