/** The export and its revoke, step by step. The explorer covers races between them (src/verify/product/). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DMA_BIDIRECTIONAL, type DmaBuf, type DmaBufAttachment } from '../../src/dma-buf/dma-buf.ts';
import { FdTable } from '../../src/dma-buf/file.ts';
import { buildMachine } from '../../src/machine/build.ts';
import { parseMachine } from '../../src/machine/load.ts';
import type { Task } from '../../src/task/op.ts';
import { runner } from '../../src/task/runner.ts';
import type { VfioPciCoreDevice } from '../../src/vfio/core.ts';
import { dmaBufMove, type VfioPciDmaBuf } from '../../src/vfio/dmabuf.ts';
import { exportAreas } from '../../src/vfio/dmabuf-export.ts';
import { buildVfioDevices } from '../../src/vfio/driver.ts';
import { PROFILES, type ProfileName } from '../../src/vfio/profile.ts';
import type { Caller } from '../../src/vfio/user.ts';

const PAGE = 4096;
const MACHINE = `
machine: two
ports:
  - { name: root, kind: root }
  - { name: up, kind: upstream, parent: root }
  - { name: a, kind: downstream, parent: up }
  - { name: b, kind: downstream, parent: up }
devices:
  - name: lender
    model: memory
    port: a
    bars: [{ index: 0, size: 64K }, { index: 2, kind: io, size: 16 }, { index: 3, kind: mem32, size: 32 }]
  - { name: borrower, model: memory, port: b, bars: [{ index: 0, size: 4K }] }
`;

function rig(profile: ProfileName = 'default') {
  const { functions } = buildMachine(parseMachine(MACHINE, 'two.yaml'));
  const vdev = buildVfioDevices(functions, PROFILES[profile]).get('lender')!;
  runner.run(vdev.open());
  const files = new FdTable();
  const unused = () => {
    throw new Error('no eventfds here');
  };
  const caller: Caller = { files, eventSignal: unused, eventSource: unused };
  const lend = (...pages: [first: number, count: number][]): DmaBuf<VfioPciDmaBuf> => {
    const areas = pages.map(([first, count]) => ({
      regionIndex: 0,
      offset: BigInt(first * PAGE),
      length: BigInt(count * PAGE),
    }));
    return files.lookup(runner.run(exportAreas(vdev, areas, 2, caller))) as DmaBuf<VfioPciDmaBuf>;
  };
  const memory = (on: boolean): void => {
    runner.run(vdev.write(7, 4, Uint8Array.of(on ? 2 : 0, 0)));
  };
  return { vdev, files, caller, lend, memory, borrower: functions.get('borrower')! };
}

/** An importer that unmaps on each callback. It counts the callbacks, and those in which it could have mapped. */
function importer(dmabuf: DmaBuf<VfioPciDmaBuf>, dev: ReturnType<typeof rig>['borrower']) {
  const told: boolean[] = [];
  const attachment: DmaBufAttachment = runner.run(
    dmabuf.attach(dev, {
      allowPeer2Peer: true,
      *invalidateMappings(): Task {
        told.push(!dmabuf.priv.revoked.value);
        for (const table of [...attachment.mappings.get()]) yield* dmabuf.unmap(attachment, table, DMA_BIDIRECTIONAL);
      },
    }),
  );
  const map = () =>
    runner.run(
      (function* () {
        yield* dmabuf.resv.lock.lock();
        try {
          return yield* dmabuf.map(attachment, DMA_BIDIRECTIONAL);
        } finally {
          yield* dmabuf.resv.lock.unlock();
        }
      })(),
    );
  return { told, map, attachment };
}

test('a revoke tells the importer, takes its mapping and refuses others until the restore', () => {
  for (const profile of ['default', 'linux-7.3'] as const) {
    const { lend, memory, borrower } = rig(profile);
    const dmabuf = lend([1, 2]);
    const { told, map } = importer(dmabuf, borrower);
    assert.equal(map().segments[0].sizeBytes, 2 * PAGE);
    assert.equal(dmabuf.priv.kref.value, 2);
    memory(false);
    assert.deepEqual([told, dmabuf.priv.revoked.value, dmabuf.priv.kref.value], [[false], true, 1]);
    assert.throws(map, { code: 'ENODEV' });
    memory(false);
    assert.equal(told.length, 1, 'a revoked buffer is not revoked again');
    memory(true);
    assert.deepEqual(told, [false, PROFILES[profile].tellAfterRestore], 'told of the restore, before or after');
    assert.equal(map().segments.length, 1);
  }
});

test('who may attach: peers that can be told, while the buffer is lent', () => {
  const { lend, memory, borrower } = rig();
  const dmabuf = lend([0, 1]);
  const attach = (ops: Parameters<typeof dmabuf.attach>[1]) => runner.run(dmabuf.attach(borrower, ops));
  const invalidateMappings = function* () {};
  assert.throws(() => attach(null), { code: 'EOPNOTSUPP' });
  assert.throws(() => attach({ allowPeer2Peer: false, invalidateMappings }), { code: 'EOPNOTSUPP' });
  assert.throws(() => attach({ allowPeer2Peer: true }), { code: 'EOPNOTSUPP' });
  memory(false);
  assert.throws(() => attach({ allowPeer2Peer: true, invalidateMappings }), { code: 'ENODEV' });
  // Without peer-to-peer this error comes first.
  assert.throws(() => attach(null), { code: 'EOPNOTSUPP' });
  memory(true);
  runner.run(dmabuf.detach(attach({ allowPeer2Peer: true, invalidateMappings })));
});

test('a buffer is born as its device is, and listed until its release', () => {
  const { vdev, lend, memory, files } = rig();
  memory(false);
  const dmabuf = lend([0, 1]);
  assert.deepEqual([dmabuf.priv.revoked.value, vdev.dmabufs.get().size], [true, 1]);
  memory(true);
  assert.equal(dmabuf.priv.revoked.value, false);
  const before = vdev.registration.refcount.value;
  runner.run(files.close(0));
  assert.deepEqual([vdev.dmabufs.get().size, vdev.registration.refcount.value], [0, before - 1]);
});

test('a close takes every buffer back for good, and keeps no registration for them', () => {
  const { vdev, lend } = rig();
  const dmabuf = lend([0, 1]);
  runner.run(vdev.close());
  assert.deepEqual([dmabuf.priv.revoked.value, dmabuf.priv.vdev.get(), vdev.dmabufs.get().size], [true, null, 0]);
  assert.equal(vdev.registration.refcount.value, 1);
  runner.run(vdev.open());
  assert.equal(dmabuf.priv.revoked.value, true);
});

test('areas that cannot be lent, in the order in which Linux looks at them', () => {
  const { vdev, caller, files } = rig();
  const attempt =
    (regionIndex: number, offset: bigint, length: bigint, flags = 2) =>
    () =>
      runner.run(exportAreas(vdev, [{ regionIndex, offset, length }], flags, caller));
  const page = BigInt(PAGE);
  for (const index of [1, 4, 6, 7, 8, 9]) assert.throws(attempt(index, 0n, page), { code: 'ENODEV' }, `${index}`);
  assert.throws(attempt(2, 0n, page), { code: 'EINVAL' });
  assert.throws(attempt(3, 0n, page), { code: 'EINVAL' });
  for (const [offset, length] of [
    [0n, 0n],
    [1n, page],
    [0n, page + 1n],
    [0n, 17n * page],
    [16n * page, page],
    [0n, 1n << 63n],
  ]) {
    assert.throws(attempt(0, offset, length), { code: 'EINVAL' }, `${offset}+${length}`);
  }
  assert.throws(attempt(0, (1n << 64n) - page, page), { code: 'EOVERFLOW' });
  assert.throws(attempt(0, 0n, page, 3), { code: 'EINVAL' });
  assert.throws(attempt(0, 0n, page, 0x40), { code: 'EINVAL' });
  assert.throws(() => runner.run(exportAreas(vdev, [], 2, caller)), { code: 'EINVAL' });
  assert.deepEqual([files.openCount, vdev.dmabufs.get().size], [0, 0]);
});

test('a full table gives the buffer back, with its registration', () => {
  const { vdev, lend, files } = rig();
  files.limit = 0;
  const before = vdev.registration.refcount.value;
  assert.throws(() => lend([0, 1]), { code: 'EMFILE' });
  runner.drain();
  assert.deepEqual([vdev.dmabufs.get().size, vdev.registration.refcount.value], [0, before]);
});

test('buffers of several regions know them; moving wants the lock', () => {
  const { vdev, lend } = rig();
  assert.deepEqual(lend([0, 1], [4, 2]).priv.regionIndexes, [0]);
  assert.throws(() => runner.run(dmaBufMove(vdev as VfioPciCoreDevice, 'reset')));
});
