/** No client gets more than its time of a round of the server's loop, however many requests it has sent at once. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MSG_DONTWAIT } from '../../src/abi/socket.ts';
import {
  VFIO_USER_DEVICE_FEATURE,
  VFIO_USER_DEVICE_GET_INFO,
  VFIO_USER_DEVICE_RESET,
  VFIO_USER_DMA_MAP,
  VFIO_USER_DMA_UNMAP,
  VFIO_USER_F_NO_REPLY,
  VFIO_USER_REGION_READ,
  VFIO_USER_REGION_WRITE,
  vfio_user_dma_map,
  vfio_user_dma_unmap,
  vfio_user_region_access,
} from '../../src/abi/vfio-user.ts';
import type { OwnedFd } from '../../src/linux/fd.ts';
import { InProcessServer } from './in-process.ts';
import { exportArgument } from './lent.ts';
import { message, type RawClient } from './raw-client.ts';

/** The time for which a bystander may have to wait. */
const MAX_WAIT_MS = 250;
const BUFFERS = 1000;

const noReply = (command: number, payload?: Uint8Array) => message({ command, flags: VFIO_USER_F_NO_REPLY }, payload);
const command = (value: number) =>
  noReply(
    VFIO_USER_REGION_WRITE,
    Buffer.concat([vfio_user_region_access.encode({ offset: 4n, region: 7, count: 2 }), Buffer.from([value, 0])]),
  );
const [addr, size] = [0x10_0000, 0x1000];

/** What a client sends again and again, without waiting for a reply. */
const FLOODS: Record<string, Buffer[]> = {
  resets: [noReply(VFIO_USER_DEVICE_RESET)],
  'the memory bit, with many lent buffers': [command(0), command(6)],
  'exports of many ranges, the last one bad': [
    noReply(
      VFIO_USER_DEVICE_FEATURE,
      exportArgument({ ranges: [...Array.from({ length: 4000 }, (): [number, number] => [0, 4096]), [0, 1]] }),
    ),
  ],
  'maps and unmaps': [
    noReply(VFIO_USER_DMA_MAP, vfio_user_dma_map.encode({ argsz: 32, flags: 3, addr, size })),
    noReply(VFIO_USER_DMA_UNMAP, vfio_user_dma_unmap.encode({ argsz: 24, flags: 0, addr, size })),
  ],
  'writes of 64 KiB': [
    noReply(
      VFIO_USER_REGION_WRITE,
      Buffer.concat([vfio_user_region_access.encode({ offset: 0n, region: 0, count: 65536 }), Buffer.alloc(65536)]),
    ),
  ],
  'commands that do nothing': [noReply(VFIO_USER_DEVICE_GET_INFO, Buffer.alloc(16))],
};

/** Sends as many messages as the socket takes. Returns their number. */
function flood(client: RawClient, messages: readonly Buffer[]): number {
  const whole = Buffer.concat(messages);
  for (let sent = 0; ; sent += messages.length) {
    const result = client.send(whole, [], MSG_DONTWAIT);
    if (result < 0) return sent;
  }
}

function lend(served: InProcessServer, client: RawClient, count: number): OwnedFd[] {
  return Array.from({ length: count }, () => {
    client.send(message({ command: VFIO_USER_DEVICE_FEATURE }, exportArgument({ ranges: [[0, 4096]] })));
    served.pump();
    return client.tryReceive()!.fds[0];
  });
}

/** Floods the server, and returns how long a bystander waited for an answer at most, in ms of the server's work. */
function waitDuring(what: string, messages: readonly Buffer[]): number {
  const served = new InProcessServer();
  const client = served.ready('lender');
  client.send(command(6));
  const buffers = what.includes('lent') ? lend(served, client, BUFFERS) : [];
  const bystander = served.ready('bystander');
  let longest = 0;
  let total = 0;
  for (let round = 0; round < 4; round++) {
    total += flood(client, messages);
    const read = vfio_user_region_access.encode({ offset: 0n, region: 7, count: 4 });
    bystander.send(message({ command: VFIO_USER_REGION_READ }, read));
    const before = process.cpuUsage();
    for (let reply = bystander.tryReceive(); reply === undefined; reply = bystander.tryReceive()) {
      served.server.loop.turn(0);
    }
    const { user, system } = process.cpuUsage(before);
    longest = Math.max(longest, (user + system) / 1000);
  }
  assert.ok(total >= messages.length, 'there was a flood');
  for (const fd of buffers) fd.close();
  client.close();
  bystander.close();
  served.pump();
  served.close();
  return longest;
}

test('a bystander is served while another client floods the server, whatever it sends', (t) => {
  for (const [what, messages] of Object.entries(FLOODS)) {
    const ms = waitDuring(what, messages);
    t.diagnostic(`${what}: the bystander waited for ${ms.toFixed(1)} ms of the server's work at most`);
    assert.ok(ms < MAX_WAIT_MS, `${what}: ${ms} ms`);
  }
});
