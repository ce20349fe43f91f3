/** The end of a session: everything is released, even if parts of it fail, and the device is free again. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { Errno } from '../../src/abi/errno.ts';
import { SOCK_SEQPACKET } from '../../src/abi/socket.ts';
import { VFIO_USER_DMA_MAP, vfio_user_dma_map } from '../../src/abi/vfio-user.ts';
import { createMemfd } from '../../src/linux/memfd.ts';
import { MappedMemory } from '../../src/linux/placed-memory.ts';
import { socketPair } from '../../src/linux/socket.ts';
import { arrayMemory } from '../../src/pci/memory.ts';
import { runner } from '../../src/task/runner.ts';
import type { BorrowedBuffer } from '../../src/vfio-user/dma-buf/borrowed-buffer.ts';
import { DmaRegions } from '../../src/vfio-user/server/dma-regions.ts';
import { leavesNoFds } from '../linux/open-fds.ts';
import { InProcessServer } from './in-process.ts';
import { message, type RawClient } from './raw-client.ts';
import { mapsOf } from './served.ts';

const PAGE = 4096;
const server = new InProcessServer();
after(() => server.close());

function mapPage(client: RawClient, iova: number): void {
  const memfd = createMemfd('test', PAGE);
  const request = vfio_user_dma_map.encode({ argsz: 32, flags: 3, addr: iova, size: PAGE });
  client.send(message({ command: VFIO_USER_DMA_MAP }, request), [memfd.fd]);
  server.pump();
  assert.equal(client.tryReceive()?.error, 0);
  memfd.close();
}

test('a device that cannot be closed, and memory that cannot be unmapped: the next client gets the device', (t) =>
  leavesNoFds(() => {
    const vdev = server.devices.get('borrower')!;
    const close = t.mock.method(vdev, 'close', function* (this: typeof vdev) {
      close.mock.restore();
      yield* this.close();
      throw new Errno('EIO', 'the device is stuck');
    });
    const client = server.ready('borrower');
    for (const iova of [0, 2 * PAGE, 4 * PAGE]) mapPage(client, iova);
    assert.equal(mapsOf('memfd:test').length, 3);
    const { unmap } = MappedMemory.prototype as unknown as { unmap(): void };
    let failures = 0;
    t.mock.method(MappedMemory.prototype as unknown as { unmap(): void }, 'unmap', function (this: MappedMemory) {
      unmap.call(this);
      failures += 1;
      throw new Errno('ENOMEM', 'munmap of test');
    });
    client.close();
    server.pump();
    assert.equal(failures, 3, 'each of them is tried');
    assert.deepEqual(mapsOf('memfd:test'), []);
    const log = server.log.join('\n');
    assert.match(log, /borrower: end of a client: close of the device: EIO: the device is stuck/);
    assert.match(log, /borrower: end of a client: release of its memory: ENOMEM: munmap of test/);
    t.mock.restoreAll();
    const next = server.ready('borrower');
    mapPage(next, 0);
    next.close();
    server.pump();
    assert.deepEqual(mapsOf('memfd:test'), []);
  }));

test('regions are given back although one of them fails; its error is told at the end', () =>
  leavesNoFds(() => {
    let closed = 0;
    const stuck = {
      map: function* () {
        return [{ memory: arrayMemory('lent', PAGE), offset: 0, sizeBytes: PAGE }];
      },
      close: () => {
        closed += 1;
        throw new Errno('EIO', 'the exporter is stuck');
      },
    } as unknown as BorrowedBuffer;
    const remote = { read: nothing, write: nothing, chunkBytes: 2 ** 20, abort() {} };
    const buffers = { find: () => null, borrow: () => stuck };
    const regions = new DmaRegions('test', remote, buffers, { maxDmaMaps: 100 });
    runner.run(regions.start());
    const [socket, other] = socketPair('test', SOCK_SEQPACKET);
    for (let i = 0; i < 6; i++) {
      const request = { flags: 3, offset: 0, iova: i * PAGE, sizeBytes: PAGE };
      runner.run(regions.map(request, i % 3 === 0 ? socket.duplicate() : createMemfd('test', PAGE)));
    }
    assert.equal(mapsOf('memfd:test').length, 4);
    assert.throws(() => runner.run(regions.unmap(0, 0n, BigInt(2 * PAGE))), /the exporter is stuck/);
    assert.equal(regions.count, 4, 'both are gone all the same');
    assert.equal(mapsOf('memfd:test').length, 3);
    assert.throws(() => runner.run(regions.destroy()), /the exporter is stuck/);
    assert.equal(regions.count, 0);
    assert.equal(closed, 2);
    assert.deepEqual(mapsOf('memfd:test'), []);
    assert.deepEqual(regions.domain.list(), []);
    for (const fd of [socket, other]) fd.close();
  }));

function* nothing(): Generator<never, boolean> {
  return false;
}
