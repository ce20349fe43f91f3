/** The bugs that came later, L1 to L14 of docs/mutants.md, in the exporter. */
import { DmaBuf } from '../../dma-buf/dma-buf.ts';
import { FdTable, type File } from '../../dma-buf/file.ts';
import { DMA_RESV_USAGE_BOOKKEEP, DmaResv } from '../../dma-buf/resv.ts';
import type { Refcount } from '../../task/cell.ts';
import { DONE, type Task } from '../../task/op.ts';
import { VfioPciCoreDevice } from '../../vfio/core.ts';
import { dmaBufCleanup, dmaBufMove, VfioPciDmaBuf, vfioPciDmaBufOps } from '../../vfio/dmabuf.ts';
import { type Mutant, replace, replacePrivate } from './overlay.ts';

interface DeviceInside {
  deviceSet: VfioPciCoreDevice['deviceSet'];
  openCount: number;
  registration: VfioPciCoreDevice['registration'];
  disable(): Task;
}

interface BufferInside {
  dmabuf: DmaBuf;
  kref: Refcount;
  revoked: VfioPciDmaBuf['revoked'];
}

const resets: Mutant[] = [
  {
    name: 'L1-flr-revokes-twice',
    summary: 'a function-level reset revokes before and after, and lends nothing again',
    invariant: 'I6',
    scenario: 'flr-vs-memory',
    apply: () =>
      replace(VfioPciCoreDevice.prototype, 'functionLevelReset', function* (this: VfioPciCoreDevice): Task {
        yield* this.memoryLock.write();
        yield* dmaBufMove(this, true);
        yield* this.pdev.setPowerState(0);
        yield* this.pdev.resetFunction();
        yield* dmaBufMove(this, true);
        yield* this.memoryLock.releaseWrite();
      }),
  },
  {
    name: 'L2-untaken-lock-walked',
    summary: 'a hot reset that finds a member busy gives back memory whose lock it never took',
    invariant: 'I4',
    scenario: 'hot-reset-vs-member-revoke',
    apply: () => replace(VfioPciCoreDevice.prototype, 'hotReset', hotResetThat({ walksUntaken: true })),
  },
  {
    name: 'L9-unopened-restored',
    summary: 'a hot reset gives back the memory of a device that nobody has opened',
    invariant: 'I4',
    scenario: 'hot-reset-of-unopened',
    apply: () => replace(VfioPciCoreDevice.prototype, 'hotReset', hotResetThat({ walksUntaken: false })),
  },
  {
    name: 'L7-cleanup-after-disable',
    summary: 'a close disables the device before it takes the buffers back',
    invariant: 'I1',
    scenario: 'close-vs-dma',
    apply: () =>
      replacePrivate<DeviceInside>(VfioPciCoreDevice.prototype, 'close', function* () {
        yield* this.deviceSet.lock.lock();
        this.openCount -= 1;
        if (this.openCount === 0) {
          yield* this.disable();
          yield* dmaBufCleanup(this as unknown as VfioPciCoreDevice);
        }
        yield* this.deviceSet.lock.unlock();
        yield* this.registration.put();
      }),
  },
];

/** A hot reset whose way back does not ask who is open, or even whose lock it has. */
function hotResetThat({ walksUntaken }: { walksUntaken: boolean }) {
  return function* (this: VfioPciCoreDevice): Task {
    const { devices, lock } = this.deviceSet;
    yield* lock.lock();
    const taken: VfioPciCoreDevice[] = [];
    for (const device of devices) {
      if (!(yield* device.memoryLock.tryWrite())) break;
      taken.push(device);
      yield* device.zapMappings();
      yield* dmaBufMove(device, true);
    }
    if (taken.length === devices.length) yield* this.pdev.resetScope();
    for (const device of walksUntaken ? devices : taken) {
      if ((!walksUntaken || device.isOpen) && device.mayLend()) yield* dmaBufMove(device, false);
      yield* device.memoryLock.releaseWrite();
    }
    yield* lock.unlock();
  };
}

const revokes: Mutant[] = [
  {
    name: 'L3-no-callback-accepted',
    summary: 'an importer that cannot be told to let go is accepted: the revoke waits for ever',
    invariant: 'I7',
    scenario: 'revoke-vs-no-callback',
    apply: () => replace(vfioPciDmaBufOps, 'attach', () => DONE),
  },
  {
    name: 'L5-no-fence-wait',
    summary: 'no wait for the fences after the importers were told: the memory goes while a peer still does DMA',
    invariant: 'I2',
    scenario: 'revoke-vs-fence',
    apply: () => replace(DmaResv.prototype, 'wait', () => DONE),
  },
  {
    name: 'L5-no-drain',
    summary: 'no wait for the last unmap after the importers were told',
    invariant: 'I2',
    scenario: 'revoke-vs-late-unmap',
    apply: () =>
      replacePrivate<BufferInside>(VfioPciDmaBuf.prototype, 'revoke', function* () {
        const { resv } = this.dmabuf;
        yield* resv.lock.lock();
        yield* this.revoked.store(true);
        yield* this.dmabuf.invalidateMappings();
        yield* resv.wait(DMA_RESV_USAGE_BOOKKEEP);
        yield* resv.lock.unlock();
      }),
  },
  {
    name: 'L5-no-invalidate',
    summary: 'importers are not told: the revoke waits for unmaps that nobody knows about',
    invariant: 'I7',
    scenario: 'revoke-vs-dma',
    apply: () => replace(DmaBuf.prototype, 'invalidateMappings', () => DONE),
  },
  {
    name: 'L6-drains-twice',
    summary: 'a buffer that is revoked already is revoked again, and its count was not set up anew',
    invariant: 'I3',
    scenario: 'revoke-vs-close',
    apply: () =>
      replacePrivate<BufferInside>(VfioPciDmaBuf.prototype, 'move', function* (revoked: boolean) {
        yield* this.dmabuf.resv.lock.lock();
        yield* this.revoked.store(revoked);
        yield* this.dmabuf.invalidateMappings();
        yield* this.dmabuf.resv.lock.unlock();
        if (!revoked) return;
        yield* this.kref.put();
        yield* this.kref.waitForZero();
      }),
  },
  {
    name: 'told-before-it-is-so',
    summary:
      'importers are told before the buffer is usable again: a map from the callback fails, and no other call comes',
    invariant: 'I6',
    scenario: 'revoke-vs-map',
    apply: () => {
      const { restore } = VfioPciDmaBuf.prototype as unknown as { restore(tellAfter: boolean): Task };
      return replacePrivate<object>(VfioPciDmaBuf.prototype, 'restore', function () {
        return restore.call(this, false);
      });
    },
  },
];

const descriptors: Mutant[] = [
  {
    name: 'L4-freed-twice-when-full',
    summary: 'with the descriptor table full, the export frees and falls through to free again',
    invariant: 'I3',
    scenario: 'export-table-full',
    apply: () =>
      aroundInstall(function* (file, install) {
        try {
          return yield* install();
        } catch (error) {
          yield* file.put();
          throw error;
        }
      }),
  },
  {
    name: 'L8-unclaimed-bar-exported',
    summary: 'a BAR that the driver could not claim is exported',
    invariant: 'I8',
    scenario: 'export-of-unclaimed',
    apply: () =>
      replace(VfioPciCoreDevice.prototype, 'exportableBar', function (this: VfioPciCoreDevice, regionIndex: number) {
        return this.pdev.bars[regionIndex] ?? null;
      }),
  },
  {
    name: 'L11-touched-after-install',
    summary: 'a tracepoint reads the buffer when its descriptor is there: another thread guesses it and closes it',
    invariant: 'I5',
    scenario: 'export-vs-guess',
    apply: () =>
      aroundInstall(function* (file, install) {
        const fd = yield* install();
        if (file instanceof DmaBuf) yield* (file.priv as VfioPciDmaBuf).revoked.load();
        return fd;
      }),
  },
];

function aroundInstall(around: (file: File, install: () => Task<number>) => Task<number>): () => void {
  const { install } = FdTable.prototype;
  return replace(FdTable.prototype, 'install', function* (this: FdTable, file: File): Task<number> {
    return yield* around(file, () => install.call(this, file));
  } as typeof install);
}

export const LATER_MUTANTS: readonly Mutant[] = [...resets, ...revokes, ...descriptors];
