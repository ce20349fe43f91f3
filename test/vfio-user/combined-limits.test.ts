/** All limits of importers at once: no combination may stall the server, or delay a revoke beyond its time. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  DMA_BUF_SOCKET_ADD_FENCE,
  DMA_BUF_SOCKET_ATTACH,
  DMA_BUF_SOCKET_MAP,
  dma_buf_socket_fence,
  dma_buf_socket_id,
  dma_buf_socket_map,
} from '../../src/abi/dma-buf-socket.ts';
import { VFIO_USER_DEVICE_FEATURE, VFIO_USER_REGION_WRITE } from '../../src/abi/vfio-user.ts';
import type { OwnedFd } from '../../src/linux/fd.ts';
import { IMPORTER_LIMITS } from '../../src/vfio-user/dma-buf/limits.ts';
import { fillSession } from './full-server.ts';
import { InProcessServer } from './in-process.ts';
import { exportArgument } from './lent.ts';
import { message, type RawClient } from './raw-client.ts';
import { OPEN, type PacketEnd, RawImporter } from './raw-importer.ts';

const { maxSessions, maxSessionsOfAll, maxAttachmentsOfBuffer, maxFencesOfBuffer } = IMPORTER_LIMITS;
/** The longest turn of the loop for which a bystander may have to wait. */
const MAX_TURN_MS = 250;

function setMemory(client: RawClient, on: boolean): void {
  const access = Buffer.from([4, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 2, 0, 0, 0, on ? 6 : 4, 0]);
  client.send(message({ command: VFIO_USER_REGION_WRITE }, access));
}

function lend(served: InProcessServer, client: RawClient, ranges: [number, number][] = [[0, 65536]]): OwnedFd {
  client.send(message({ command: VFIO_USER_DEVICE_FEATURE }, exportArgument({ ranges })));
  served.pump();
  const reply = client.tryReceive()!;
  assert.equal(reply.error, 0);
  return reply.fds[0];
}

/** A session's replies to requests that were sent at once: the number of successes, and the errnos of the others. */
function answers(session: PacketEnd): { ok: number; errors: number[] } {
  const found = { ok: 0, errors: [] as number[] };
  for (let packet = session.receive(false); packet; packet = session.receive(false)) {
    for (const fd of packet.fds) fd.close();
    if (!packet.isReply) continue;
    if (packet.error === 0) found.ok += 1;
    else found.errors.push(packet.error);
  }
  return found;
}

/** As fillSession, where every request must succeed. */
function fill(served: InProcessServer, buffer: OwnedFd): RawImporter {
  const session = fillSession(served, buffer);
  assert.deepEqual(answers(session).errors, []);
  return session;
}

/** Turns the loop until the client has its reply, and measures. */
function measure(served: InProcessServer, client: RawClient) {
  const start = performance.now();
  let longest = 0;
  let cpuMs = 0;
  let reply = client.tryReceive();
  for (; reply === undefined; reply = client.tryReceive()) {
    const before = process.cpuUsage();
    served.server.loop.turn(5);
    const { user, system } = process.cpuUsage(before);
    longest = Math.max(longest, (user + system) / 1000);
    cpuMs += (user + system) / 1000;
  }
  return { reply, tookMs: performance.now() - start, longest, cpuMs };
}

function revokeAtTheLimits(t: { diagnostic(message: string): void }, buffers: number, timeoutMs: number): void {
  const served = new InProcessServer(undefined, timeoutMs);
  const client = served.ready('lender');
  setMemory(client, true);
  served.pump();
  client.tryReceive();
  const lent = Array.from({ length: buffers }, () => lend(served, client));
  const sessions = lent.flatMap((buffer) => Array.from({ length: maxSessions }, () => fill(served, buffer)));
  setMemory(client, false);
  const { reply, tookMs, longest, cpuMs } = measure(served, client);
  t.diagnostic(
    `${buffers} buffers, ${sessions.length} silent sessions: revoke ${tookMs.toFixed(0)} ms of ${timeoutMs} allowed, ` +
      `longest turn ${longest.toFixed(1)} ms of CPU, ${cpuMs.toFixed(0)} ms in all`,
  );
  assert.equal(reply!.error, 0);
  assert.ok(longest < MAX_TURN_MS, `a turn of ${longest} ms`);
  // One after the other, the buffers would take their number times this. The rest is the server's work on a busy machine.
  if (buffers > 2) assert.ok(tookMs < (buffers / 2) * timeoutMs, `${tookMs} ms; importers had ${timeoutMs}`);
  assert.ok(cpuMs < 1000 * buffers, `${cpuMs} ms of work for one revoke`);
  for (const session of sessions) session.close();
  for (const buffer of lent) buffer.close();
  client.close();
  served.pump();
  served.close();
}

test('one buffer at all its limits: no turn of the loop is long, and the revoke ends with the time to answer', (t) =>
  revokeAtTheLimits(t, 1, 300));

test('all sessions of a server at their limits, silent: the time to answer runs once, not for each buffer', (t) =>
  revokeAtTheLimits(t, maxSessionsOfAll / maxSessions, 1500));

test('budgets of a buffer: attachments and fences of all its importers together', () => {
  const served = new InProcessServer();
  const client = served.ready('lender');
  setMemory(client, true);
  served.pump();
  client.tryReceive();
  const buffer = lend(served, client);
  const ask = (command: number, payload: Uint8Array, times: number) => {
    const session = new RawImporter(buffer, OPEN);
    session.send({ command: DMA_BUF_SOCKET_ATTACH }, dma_buf_socket_id.encode({}));
    for (let i = 0; i < times; i++) {
      session.send({ command }, payload);
      if (i % 32 === 0) served.pump();
    }
    served.pump();
    return { session, ...answers(session) };
  };
  const attach = dma_buf_socket_id.encode({});
  const attaching = Array.from({ length: 5 }, () => ask(DMA_BUF_SOCKET_ATTACH, attach, 63));
  // The server also answers one OPEN of each session.
  assert.equal(
    attaching.reduce((sum, { ok }) => sum + ok - 1, 0),
    maxAttachmentsOfBuffer,
  );
  assert.ok(attaching.at(-1)!.errors.every((error) => error === 28));
  for (const { session } of attaching) session.close();
  served.pump();
  const fence = dma_buf_socket_fence.encode({ attachment: 1, usage: 3 });
  const fencing = Array.from({ length: 5 }, () => ask(DMA_BUF_SOCKET_ADD_FENCE, fence, IMPORTER_LIMITS.maxFences));
  assert.equal(
    fencing.reduce((sum, { ok }) => sum + ok - 2, 0),
    maxFencesOfBuffer,
  );
  assert.ok(
    fencing.at(-1)!.errors.every((error) => error === 28),
    'ENOSPC',
  );
  fencing[0].session.close();
  served.pump();
  const again = ask(DMA_BUF_SOCKET_ADD_FENCE, fence, 10);
  assert.deepEqual(again.errors, [], 'what goes makes room');
  for (const { session } of [...fencing, again]) session.close();
  buffer.close();
  client.close();
  served.pump();
  served.close();
});

test('ranges of mappings: a session keeps so many, whatever its number of mappings', () => {
  const served = new InProcessServer();
  const client = served.ready('lender');
  setMemory(client, true);
  served.pump();
  client.tryReceive();
  const many = Array.from({ length: IMPORTER_LIMITS.maxRanges }, (): [number, number] => [0, 4096]);
  const buffer = lend(served, client, many);
  const session = new RawImporter(buffer, OPEN);
  session.send({ command: DMA_BUF_SOCKET_ATTACH }, dma_buf_socket_id.encode({}));
  served.pump();
  answers(session);
  let mapped = 0;
  for (;;) {
    session.send({ command: DMA_BUF_SOCKET_MAP }, dma_buf_socket_map.encode({ attachment: 1, flags: 1 }));
    served.pump();
    const { ok, errors } = answers(session);
    mapped += ok;
    if (ok === 1) continue;
    assert.deepEqual(errors, [28], 'ENOSPC');
    break;
  }
  assert.equal(mapped, IMPORTER_LIMITS.maxMappedRanges / IMPORTER_LIMITS.maxRanges);
  session.close();
  buffer.close();
  client.close();
  served.pump();
  served.close();
});
