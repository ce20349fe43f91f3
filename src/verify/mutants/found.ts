/** Bugs in this project that the explorer found. As mutants they prove that it still finds them. */
import { DMA_BIDIRECTIONAL } from '../../dma-buf/dma-buf.ts';
import { FdTable, type File } from '../../dma-buf/file.ts';
import { resetFunction } from '../../pci/reset.ts';
import { EngineImporter } from '../../scenario/engine/importer-driver.ts';
import type { Cell } from '../../task/cell.ts';
import type { Task } from '../../task/op.ts';
import { VfioPciCoreDevice } from '../../vfio/core.ts';
import { type PowerWrite, setPowerState } from '../../vfio/pm.ts';
import { withMemoryRevoked } from '../../vfio/reset.ts';
import { type Mutant, replace, replacePrivate } from './overlay.ts';

export const FOUND_MUTANTS: readonly Mutant[] = [
  {
    name: 'F1-flr-keeps-d3hot',
    summary: 'a function-level reset from D3hot brings the old power state back: the next PMCSR write believes it',
    invariant: 'I1',
    scenario: 'flr-vs-d3hot',
    apply: () =>
      replace(VfioPciCoreDevice.prototype, 'functionLevelReset', function (this: VfioPciCoreDevice): Task {
        return withMemoryRevoked(this, 'reset', () => resetFunction(this.pdev));
      }),
  },
  {
    name: 'F2-pmcsr-outside-the-lock',
    summary: 'the other bits of PMCSR are written without memory_lock, and the power state beside them with the rest',
    invariant: 'race',
    scenario: 'd3hot-vs-hot-reset',
    apply: () =>
      replace(
        VfioPciCoreDevice.prototype,
        'setPowerState',
        function* (this: VfioPciCoreDevice, { state, otherBits }: PowerWrite): Task {
          const { offset, size, mask, value } = otherBits;
          yield* this.pdev.configModify(offset, size, mask, value);
          yield* setPowerState(this, { state, otherBits: { ...otherBits, mask: 0, value: 0 } });
        },
      ),
  },
  {
    name: 'F3-fget-too-late',
    summary: 'a descriptor is looked up, closed by another thread, and its file is taken after that',
    invariant: 'I3',
    scenario: 'attach-vs-release',
    apply: () =>
      replace(FdTable.prototype, 'get', function* (this: FdTable, fd: number): Task<File> {
        const { files } = this as unknown as { files: Cell<Map<number, File>> };
        const file = (yield* files.loadFor((map) => map.get(fd)))!;
        yield* file.get();
        return file;
      }),
  },
  {
    name: 'F4-unmapped-under-a-fence',
    summary: 'an importer unmaps when it is told to, while its own DMA is under way',
    invariant: 'I5',
    scenario: 'revoke-vs-dma',
    apply: () =>
      replacePrivate<EngineImporter>(EngineImporter.prototype, 'invalidate', function* () {
        for (const mapping of [...this.mappings]) {
          this.mappings.delete(mapping);
          yield* this.dmabuf.unmap(this.attachment, mapping.table, DMA_BIDIRECTIONAL);
        }
      }),
  },
];
