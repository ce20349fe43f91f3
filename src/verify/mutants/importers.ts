/** Bugs of importers and of the path between the devices. */

import type { DmaAddressSpace, DmaStatus } from '../../pci/dma.ts';
import { Fabric } from '../../pci/fabric.ts';
import { EngineImporter, type ImporterMapping } from '../../scenario/engine/importer-driver.ts';
import type { Cell } from '../../task/cell.ts';
import type { Mutex } from '../../task/lock.ts';
import type { Task } from '../../task/op.ts';
import type { Plain } from '../../task/plain.ts';
import { spawn } from '../../task/runner.ts';
import type { VfioPciDmaBuf } from '../../vfio/dmabuf.ts';
import { vfioPciDmaBufOps } from '../../vfio/dmabuf.ts';
import { Ioas } from '../../vfio/ioas.ts';
import { type IoptArea, IoptPages } from '../../vfio/iopt-pages.ts';
import { type Mutant, replace, replacePrivate } from './overlay.ts';

export const IMPORTER_MUTANTS: readonly Mutant[] = [
  {
    name: 'L12-lock-destroyed-early',
    summary: 'an importer frees its own state, then detaches: its callback comes in between',
    invariant: 'I5',
    scenario: 'revoke-vs-detach',
    apply: () =>
      replace(EngineImporter.prototype, 'detach', function* (this: EngineImporter): Task {
        yield* this.dmabuf.resv.lock.lock();
        for (const mapping of [...this.mappings]) yield* this.unmapLocked(mapping);
        yield* this.dmabuf.resv.lock.unlock();
        this.lifetime.end();
        yield* this.dmabuf.detach(this.attachment);
        yield* this.dmabuf.put();
      }),
  },
  {
    name: 'L14-unmap-skipped',
    summary: 'an importer whose own count is zero keeps the mapping, and skips it when it is told to let go',
    invariant: 'I7',
    scenario: 'revoke-vs-unmap',
    apply: () =>
      replace(EngineImporter.prototype, 'unmap', function* (this: EngineImporter, mapping: ImporterMapping): Task {
        yield* this.dmabuf.resv.lock.lock();
        this.mappings.delete(mapping);
        yield* this.dmabuf.resv.lock.unlock();
      }),
  },
  {
    name: 'lock-inversion',
    summary: 'mapping takes memory_lock with the reservation held, which revokes take the other way round',
    invariant: 'I4',
    scenario: 'revoke-vs-map',
    apply: () => {
      const { map } = vfioPciDmaBufOps;
      return replace(vfioPciDmaBufOps, 'map', function* (attachment, direction) {
        const vdev = (attachment.dmabuf.priv as VfioPciDmaBuf).vdev.get()!;
        yield* vdev.memoryLock.read();
        try {
          return yield* map(attachment, direction);
        } finally {
          yield* vdev.memoryLock.releaseRead();
        }
      });
    },
  },
  {
    name: 'posted-write-lingers',
    summary: 'a write is answered when it leaves the importer, and reaches the BAR after the fence has signalled',
    invariant: 'I9',
    scenario: 'revoke-vs-dma',
    apply: () => {
      const { deliverToBar } = Fabric.prototype as unknown as { deliverToBar(...args: unknown[]): Task };
      return replacePrivate<object>(Fabric.prototype, 'deliverToBar', function* (...args): Task<DmaStatus> {
        yield* spawn('posted write', deliverToBar.apply(this, args));
        return 'ok';
      });
    },
  },
  {
    name: 'ioas-domain-listed-late',
    summary: 'an address space fills a domain before revokes can see it',
    invariant: 'I2',
    scenario: 'revoke-vs-attach-domain',
    apply: () =>
      replacePrivate<IoasInside>(Ioas.prototype, 'attachDomain', function* (domain: DmaAddressSpace) {
        yield* this.lock.lock();
        for (const area of this.areas.get()) {
          yield* area.pages.dmabuf.resv.lock.lock();
          area.mapInto(domain);
          yield* area.pages.dmabuf.resv.lock.unlock();
        }
        yield* this.domains.store([...this.domains.value, domain]);
        yield* this.lock.unlock();
      }),
  },
  {
    name: 'ioas-copy-forgotten',
    summary: 'a revoke takes the translations of an import out, and forgets those of its copies',
    invariant: 'I2',
    scenario: 'revoke-vs-copy',
    apply: () =>
      replacePrivate<{ areas: Set<IoptArea> }>(IoptPages.prototype, 'invalidate', function* () {
        for (const area of [...this.areas].slice(0, 1)) {
          for (const domain of yield* area.domains.load()) area.unmapFrom(domain);
        }
      }),
  },
];

interface IoasInside {
  lock: Mutex;
  areas: Plain<IoptArea[]>;
  domains: Cell<readonly DmaAddressSpace[]>;
}
