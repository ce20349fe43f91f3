/** The limits on lent buffers for each device and for the whole server, across all importers. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { VFIO_USER_DEVICE_FEATURE } from '../../src/abi/vfio-user.ts';
import type { OwnedFd } from '../../src/linux/fd.ts';
import { openFilesLimit, setOpenFilesLimit } from '../../src/linux/process.ts';
import { LIMITS } from '../../src/vfio-user/wire/frame.ts';
import { InProcessServer } from './in-process.ts';
import { exportArgument } from './lent.ts';
import { message, type RawClient } from './raw-client.ts';

/** Exports until the server refuses; returns the descriptors and the errno. */
function exportAll(
  served: InProcessServer,
  client: RawClient,
  most: number,
  ranges: [number, number][] = [[0, 4096]],
): { fds: OwnedFd[]; error: number } {
  const request = message({ command: VFIO_USER_DEVICE_FEATURE }, exportArgument({ ranges }));
  const fds: OwnedFd[] = [];
  while (fds.length < most) {
    // A request with many ranges does not fit into the socket at once.
    for (let at = 0; at < request.length; at += 65536) {
      client.send(request.subarray(at, at + 65536));
      served.pump();
    }
    // Its reply does not fit either.
    let reply = client.tryReceive();
    for (; reply === undefined; reply = client.tryReceive()) served.pump();
    assert.ok(reply !== null);
    if (reply.error !== 0) return { fds, error: reply.error };
    fds.push(...reply.fds);
  }
  return { fds, error: 0 };
}

test('a device that is held to its share over reconnects leaves the others theirs', () => {
  const files = openFilesLimit().soft;
  const before = setOpenFilesLimit(Math.min(files, 2048));
  const served = new InProcessServer();
  try {
    const share = Math.floor(Math.floor(Math.min(files, 2048) / 4) / served.devices.size);
    assert.ok(share < LIMITS.maxExports);
    const held: OwnedFd[] = [];
    for (let i = 0; i < 4; i++) {
      const client = served.ready('lender');
      const { fds, error } = exportAll(served, client, Math.ceil(share / 3));
      held.push(...fds);
      assert.equal(error, held.length < share ? 0 : 24, 'EMFILE');
      client.close();
      served.pump();
    }
    assert.equal(held.length, share);
    const other = served.ready('bystander');
    const { fds, error } = exportAll(served, other, share);
    assert.deepEqual([fds.length, error], [share, 0], 'the share of another device is there');
    other.close();
    for (const fd of [...held, ...fds]) fd.close();
    served.pump();
    assert.equal(served.server.exports.size, 0);
    const again = served.ready('lender');
    const [buffer] = exportAll(served, again, 1).fds;
    buffer.close();
    again.close();
  } finally {
    served.close();
    setOpenFilesLimit(before);
  }
});

test('ranges of the buffers of a device are limited together, and come back when the buffers go', () => {
  const served = new InProcessServer();
  const client = served.ready('lender');
  const many = Array.from({ length: 60_000 }, (): [number, number] => [0, 4096]);
  const { fds, error } = exportAll(served, client, 10, many);
  assert.deepEqual([fds.length, error], [Math.floor(LIMITS.maxExportRanges / many.length), 12], 'ENOMEM');
  for (const fd of fds) fd.close();
  served.pump();
  const again = exportAll(served, client, 1, many);
  assert.equal(again.error, 0);
  for (const fd of again.fds) fd.close();
  client.close();
  served.pump();
  served.close();
});
