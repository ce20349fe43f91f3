/** Everything that a scenario's steps have made on the engine, by the names that they gave. */
import { Errno } from '../../abi/errno.ts';
import { DmaBuf } from '../../dma-buf/dma-buf.ts';
import { FdTable, type File } from '../../dma-buf/file.ts';
import type { IommuDomain } from '../../iommu/domain.ts';
import type { Machine } from '../../machine/build.ts';
import type { DmaAddressSpace } from '../../pci/dma.ts';
import type { PciFunction } from '../../pci/function.ts';
import { Cell } from '../../task/cell.ts';
import type { Task } from '../../task/op.ts';
import type { VfioPciCoreDevice } from '../../vfio/core.ts';
import { buildVfioDevices } from '../../vfio/driver.ts';
import type { Ioas } from '../../vfio/ioas.ts';
import type { BarMapping } from '../../vfio/mmap.ts';
import type { Profile } from '../../vfio/profile.ts';
import type { Caller, EventSignal, EventSource } from '../../vfio/user.ts';
import { DeviceFiles } from './files.ts';
import type { EngineImporter, ImporterMapping } from './importer-driver.ts';
import { StartedSteps } from './started.ts';

/** An eventfd of the scenario. It counts its signals. */
class CountingEvent implements EventSignal {
  count = 0;

  signal(): void {
    this.count += 1;
  }
}

export class EngineWorld implements Caller {
  readonly machine: Machine;
  readonly profile: Profile;
  readonly devices: ReadonlyMap<string, VfioPciCoreDevice>;
  readonly files = new FdTable();
  readonly deviceFiles = new DeviceFiles(({ pdev }) => this.detachFromIoas(pdev.name));
  readonly fds = new Map<string, number>();
  readonly importers = new Map<string, EngineImporter>();
  /** Names of the importers whose invalidate callbacks came, in order. */
  readonly callbackOrder: string[] = [];
  readonly mappings = new Map<string, ImporterMapping>();
  readonly maps = new Map<string, BarMapping>();
  readonly fences = new Map<string, { signal(): Task }>();
  readonly ioases = new Map<string, Ioas>();
  /** The address space of each device that is in one, and the domain that it had before. */
  readonly attached = new Map<string, { ioas: Ioas; domain: IommuDomain; before: DmaAddressSpace | null }>();
  readonly events = new Map<string, CountingEvent>();
  readonly started = new StartedSteps();
  /** Where steps of different tasks meet by a name: a later step waits for the one that makes it. */
  readonly names = new Cell('scenario names', 0);

  /** Called by each invalidate callback of an importer, with the reservation held. */
  onInvalidate: (importer: EngineImporter) => void = () => {};

  constructor(machine: Machine, profile: Profile) {
    this.machine = machine;
    this.profile = profile;
    this.devices = buildVfioDevices(machine.functions, profile);
  }

  /** Scenarios give eventfds by position in `events`, and the engine sees that number as the descriptor. */
  eventSignal(fd: number): EventSignal {
    const event = [...this.events.values()][fd];
    if (event === undefined) throw new Errno('EBADF', `descriptor ${fd} is not an eventfd`);
    return event;
  }

  /** No step of the language signals an eventfd: it is only looked up. */
  eventSource(fd: number): EventSource {
    this.eventSignal(fd);
    return { release() {} };
  }

  /** The descriptor of an event by its name, made at its first use; null stands for -1. */
  eventNumber(name: string | number | null): number {
    if (name === null) return -1;
    if (typeof name === 'number') return name;
    if (!this.events.has(name)) this.events.set(name, new CountingEvent());
    return [...this.events.keys()].indexOf(name);
  }

  device(name: string): VfioPciCoreDevice {
    const device = this.devices.get(name);
    if (device === undefined)
      throw new Error(`the machine has no device ${name}; it has ${[...this.devices.keys()].join(', ')}`);
    return device;
  }

  pciFunction(name: string): PciFunction {
    return this.device(name).pdev;
  }

  /** The descriptor of a name; a name that was never given, or whose step failed, is a bad descriptor. */
  fd(name: string): number {
    return this.fds.get(name) ?? -1;
  }

  /** Puts a file under a name; the reference goes to the table, or is dropped when the table is full. */
  *install(file: File, as: string): Task<null> {
    try {
      this.fds.set(as, yield* this.files.install(file));
    } catch (error) {
      yield* file.put();
      throw error;
    }
    return null;
  }

  /** dma_buf_get: with a reference, so that another task may close the descriptor. EBADF, EINVAL. */
  *getDmabuf(name: string): Task<DmaBuf> {
    const file = yield* this.files.get(this.fd(name));
    if (file instanceof DmaBuf) return file;
    yield* file.put();
    throw new Errno('EINVAL', `${name} is not a dma-buf`);
  }

  dmabuf(name: string): DmaBuf {
    const file = this.files.lookup(this.fd(name));
    if (!(file instanceof DmaBuf)) throw new Errno('EINVAL', `${name} is not a dma-buf`);
    return file;
  }

  /** Takes a device out of its I/O address space. The last close of a device does so too. */
  *detachFromIoas(device: string): Task<null> {
    const attached = this.attached.get(device);
    if (attached === undefined) return null;
    this.attached.delete(device);
    this.pciFunction(device).iommuDomain = attached.before;
    yield* attached.ioas.detachDomain(attached.domain);
    return null;
  }
}
