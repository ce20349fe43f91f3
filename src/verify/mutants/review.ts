/** The bugs that the review of the first patches named, R1 to R8 of docs/mutants.md. */
import { PCI_COMMAND, PCI_COMMAND_MEMORY } from '../../abi/pci_regs.ts';
import type { DmaBuf } from '../../dma-buf/dma-buf.ts';
import { File } from '../../dma-buf/file.ts';
import type { PciPowerState } from '../../pci/function.ts';
import type { Cell } from '../../task/cell.ts';
import { DONE, DONE_TRUE, type Task } from '../../task/op.ts';
import { VfioConfig } from '../../vfio/config.ts';
import { VfioPciCoreDevice } from '../../vfio/core.ts';
import { type VfioPciDmaBuf, vfioPciDmaBufOps } from '../../vfio/dmabuf.ts';
import { BarMapping } from '../../vfio/mmap.ts';
import { Registration } from '../../vfio/registration.ts';
import { type Mutant, replace, replacePrivate } from './overlay.ts';

const userMappings: Mutant[] = [
  {
    name: 'R4-fault-unchecked',
    summary: 'the fault handler maps the page of a BAR whose memory is off',
    invariant: 'race',
    scenario: 'revoke-vs-mmap',
    apply: () =>
      replacePrivate<{ present: Cell<boolean> }>(BarMapping.prototype, 'touch', function* (access: () => void) {
        yield* this.present.store(true);
        yield* this.present.loadFor(access);
      }),
  },
  {
    name: 'R4-mapping-kept',
    summary: "the user's pages stay mapped when memory goes off",
    invariant: 'race',
    scenario: 'revoke-vs-mmap',
    apply: () => replace(BarMapping.prototype, 'zap', () => DONE),
  },
];

const triggers: Mutant[] = [
  {
    name: 'R5-flr-without-revoke',
    summary: 'a function-level reset through config space revokes nothing',
    invariant: 'I1',
    scenario: 'flr-vs-memory',
    apply: () =>
      replace(VfioPciCoreDevice.prototype, 'functionLevelReset', function* (this: VfioPciCoreDevice): Task {
        yield* this.memoryLock.write();
        yield* this.pdev.setPowerState(0);
        yield* this.pdev.resetFunction();
        yield* this.memoryLock.releaseWrite();
      }),
  },
  {
    name: 'R6-d3hot-without-revoke',
    summary: 'a write to PMCSR puts the device to D3hot with its buffers lent',
    invariant: 'I1',
    scenario: 'd3hot-vs-reset',
    apply: () =>
      replace(
        VfioPciCoreDevice.prototype,
        'setPowerState',
        function* (this: VfioPciCoreDevice, state: PciPowerState, others: () => Task): Task {
          yield* this.memoryLock.write();
          yield* others();
          yield* this.pdev.setPowerState(state);
          yield* this.memoryLock.releaseWrite();
        },
      ),
  },
  {
    name: 'R6-low-power-without-revoke',
    summary: 'the device is allowed to sleep with its buffers lent',
    invariant: 'I1',
    scenario: 'low-power-vs-dma',
    apply: () =>
      replace(VfioPciCoreDevice.prototype, 'enterLowPower', function* (this: VfioPciCoreDevice): Task {
        yield* this.memoryLock.write();
        yield* this.lowPower.engaged.store(true);
        yield* this.memoryLock.releaseWrite();
      }),
  },
  {
    name: 'R7-memory-off-without-revoke',
    summary: 'clearing the memory bit revokes nothing',
    invariant: 'I1',
    scenario: 'revoke-vs-dma',
    apply: () => replacePrivate<ConfigInside>(VfioConfig.prototype, 'writeCommand', writeCommandOnly),
  },
  {
    name: 'R7-memory-bit-ignored',
    summary: 'the memory bit is not looked at when memory is lent again',
    invariant: 'I1',
    scenario: 'revoke-vs-attach',
    apply: () => replace(VfioPciCoreDevice.prototype, 'memoryEnabled', () => true),
  },
];

interface ConfigInside {
  vdev: VfioPciCoreDevice;
  virtualWord(offset: number): number;
  setCopy(offset: number, size: number, value: number): void;
  writeDefault(offset: number, size: number, value: number): Task;
}

function* writeCommandOnly(this: ConfigInside, size: number, value: number): Task {
  yield* this.vdev.memoryLock.write();
  yield* this.writeDefault(PCI_COMMAND, size, value);
  const others = this.virtualWord(PCI_COMMAND) & ~PCI_COMMAND_MEMORY;
  this.setCopy(PCI_COMMAND, 2, others | (value & PCI_COMMAND_MEMORY));
  yield* this.vdev.memoryLock.releaseWrite();
}

const lifetimes: Mutant[] = [
  {
    name: 'R2-registration-ignored',
    summary:
      'a failed try_get of the registration is ignored: an export races the unregistering, and its put underflows',
    invariant: 'I3',
    scenario: 'export-vs-unregister',
    apply: () => replace(Registration.prototype, 'tryGet', () => DONE_TRUE),
  },
  {
    name: 'R8-dead-file-walked',
    summary: 'the walk over the buffers does not ask whether a file is still alive',
    invariant: 'I3',
    scenario: 'revoke-vs-release',
    apply: () => replace(File.prototype, 'tryGet', () => DONE_TRUE),
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

export const REVIEW_MUTANTS: readonly Mutant[] = [
  ...lifetimes.slice(0, 1),
  ...userMappings,
  ...triggers,
  ...lifetimes.slice(1),
];
