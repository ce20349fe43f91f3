/** References, files and descriptors that are taken too late, dropped twice, or used after their end. */
import { DmaBuf } from '../../dma-buf/dma-buf.ts';
import { FdTable, File } from '../../dma-buf/file.ts';
import { done, type Task } from '../../task/op.ts';
import { VfioPciCoreDevice } from '../../vfio/core.ts';
import { type VfioPciDmaBuf, vfioPciDmaBufOps } from '../../vfio/dmabuf.ts';
import { Registration } from '../../vfio/registration.ts';
import { type Mutant, replace } from './overlay.ts';

const references: Mutant[] = [
  {
    name: 'R2-registration-ignored',
    summary:
      'a failed try_get of the registration is ignored: an export races the unregistering, and its put underflows',
    invariant: 'I3',
    scenario: 'export-vs-unregister',
    apply: () => replace(Registration.prototype, 'tryGet', () => done(true)),
  },
  {
    name: 'R8-dead-file-walked',
    summary: 'the walk over the buffers does not ask whether a file is still alive',
    invariant: 'I3',
    scenario: 'revoke-vs-release',
    apply: () => replace(File.prototype, 'tryGet', () => done(true)),
  },
  {
    name: 'R8-release-under-the-lock',
    summary: 'the walk drops its reference with memory_lock held, and the release wants memory_lock',
    invariant: 'I4',
    scenario: 'revoke-vs-release',
    apply: () => replace(File.prototype, 'putDeferred', File.prototype.put),
  },
  {
    name: 'R8-list-without-lock',
    summary: 'the release takes its buffer off the list without memory_lock',
    invariant: 'race',
    scenario: 'revoke-vs-release',
    apply: () =>
      replace(vfioPciDmaBufOps, 'release', function* (dmabuf: DmaBuf): Task {
        const priv = dmabuf.priv as VfioPciDmaBuf;
        const vdev = priv.vdev.get();
        if (vdev !== null) {
          vdev.dmabufs.change().delete(priv);
          yield* vdev.registration.put();
        }
        priv.lifetime.end();
      }),
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

export const LIFETIME_MUTANTS: readonly Mutant[] = [...references, ...descriptors];
