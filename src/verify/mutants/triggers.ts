/** Triggers that forget to revoke, or to restore: config writes, power states, resets and closes. */
import { PCI_COMMAND, PCI_COMMAND_MEMORY } from '../../abi/pci_regs.ts';
import type { RegisterWrite } from '../../pci/register-write.ts';
import { resetBus, resetFunction } from '../../pci/reset.ts';
import type { Task } from '../../task/op.ts';
import { VfioConfig } from '../../vfio/config.ts';
import { VfioPciCoreDevice } from '../../vfio/core.ts';
import { dmaBufCleanup, dmaBufMove } from '../../vfio/dmabuf.ts';
import type { PowerWrite } from '../../vfio/pm.ts';
import { type Mutant, replace, replacePrivate } from './overlay.ts';

const withoutRevoke: Mutant[] = [
  {
    name: 'R5-flr-without-revoke',
    summary: 'a function-level reset through config space revokes nothing',
    invariant: 'I1',
    scenario: 'flr-vs-memory',
    apply: () =>
      replace(VfioPciCoreDevice.prototype, 'functionLevelReset', function* (this: VfioPciCoreDevice): Task {
        yield* this.memoryLock.write();
        yield* this.pdev.setPowerState(0);
        yield* resetFunction(this.pdev);
        yield* this.memoryLock.releaseWrite();
      }),
  },
  {
    name: 'sysfs-reset-without-revoke',
    summary: 'a reset through sysfs revokes nothing',
    invariant: 'I1',
    scenario: 'sysfs-reset-vs-memory',
    apply: () =>
      replace(VfioPciCoreDevice.prototype, 'sysfsReset', function* (this: VfioPciCoreDevice): Task {
        yield* resetFunction(this.pdev);
      }),
  },
  {
    name: 'sysfs-config-without-revoke',
    summary: 'a write to config space through sysfs switches memory off that is lent',
    invariant: 'I1',
    scenario: 'sysfs-config-vs-memory',
    apply: () =>
      replace(
        VfioPciCoreDevice.prototype,
        'sysfsConfigWrite',
        function* (this: VfioPciCoreDevice, offset: number, size: 1 | 2 | 4, value: number): Task {
          yield* this.pdev.configWrite(offset, size, value);
        },
      ),
  },
  {
    name: 'sysfs-bus-reset-without-revoke',
    summary: 'a reset of the bus through sysfs revokes nothing',
    invariant: 'I1',
    scenario: 'sysfs-bus-reset-vs-memory',
    apply: () =>
      replace(VfioPciCoreDevice.prototype, 'sysfsResetSubordinate', function* (this: VfioPciCoreDevice): Task {
        yield* resetBus(this.pdev);
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
        function* (this: VfioPciCoreDevice, { state, otherBits }: PowerWrite): Task {
          const { offset, size, mask, value } = otherBits;
          yield* this.memoryLock.write();
          yield* this.pdev.configModify(offset, size, mask, value);
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
  writeDefault(write: RegisterWrite): Task;
}

function* writeCommandOnly(this: ConfigInside, write: RegisterWrite): Task {
  yield* this.vdev.memoryLock.write();
  yield* this.writeDefault(write);
  const others = this.virtualWord(PCI_COMMAND) & ~PCI_COMMAND_MEMORY;
  this.setCopy(PCI_COMMAND, 2, others | (write.value & PCI_COMMAND_MEMORY));
  yield* this.vdev.memoryLock.releaseWrite();
}

interface DeviceInside {
  deviceSet: VfioPciCoreDevice['deviceSet'];
  openCount: number;
  registration: VfioPciCoreDevice['registration'];
  disable(): Task;
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
        yield* dmaBufMove(this, 'FLR');
        yield* this.pdev.setPowerState(0);
        yield* resetFunction(this.pdev);
        yield* dmaBufMove(this, 'FLR');
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

/** A hot reset whose restore skips the check that a device is open or, with `walksUntaken`, that it holds the lock. */
function hotResetThat({ walksUntaken }: { walksUntaken: boolean }) {
  return function* (this: VfioPciCoreDevice): Task {
    const { devices, lock } = this.deviceSet;
    yield* lock.lock();
    const taken: VfioPciCoreDevice[] = [];
    for (const device of devices) {
      if (!(yield* device.memoryLock.tryWrite())) break;
      taken.push(device);
      yield* device.zapMappings();
      yield* dmaBufMove(device, 'hot reset');
    }
    if (taken.length === devices.length) yield* resetBus(this.pdev);
    for (const device of walksUntaken ? devices : taken) {
      if ((!walksUntaken || device.isOpen) && device.mayLend()) yield* dmaBufMove(device, null);
      yield* device.memoryLock.releaseWrite();
    }
    yield* lock.unlock();
  };
}

export const TRIGGER_MUTANTS: readonly Mutant[] = [...withoutRevoke, ...resets];
