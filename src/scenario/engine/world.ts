/** Everything that a scenario's steps have made on the engine, by name. */
import { Errno } from '../../abi/errno.ts';
import { DmaBuf, type UserMapping } from '../../dma-buf/dma-buf.ts';
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
import { bufferOf, type Caller, type EventSignal, type EventSource } from '../../vfio/user.ts';
import { Drivers } from './drivers.ts';
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
  readonly drivers: Drivers;
  readonly files = new FdTable();
  readonly deviceFiles = new DeviceFiles(({ pdev }) => this.detachFromIoas(pdev.name));
  readonly fds = new Map<string, number>();
  /** What lets go of each hold of a file. */
  readonly holds = new Map<string, () => Task>();
  readonly importers = new Map<string, EngineImporter>();
  /** The importers' names in the order of their invalidate callbacks. */
  readonly callbackOrder: string[] = [];
  readonly mappings = new Map<string, ImporterMapping>();
  readonly maps = new Map<string, BarMapping | UserMapping>();
  readonly fences = new Map<string, { signal(): Task }>();
  readonly ioases = new Map<string, Ioas>();
  /** The address space of each attached device, and the domain that it had before. */
  readonly attached = new Map<string, { ioas: Ioas; domain: IommuDomain; before: DmaAddressSpace | null }>();
  readonly events = new Map<string, CountingEvent>();
  readonly started = new StartedSteps();
  /** Synchronizes steps of different tasks by names: a step that uses a name waits for the step that makes it. */
  readonly names = new Cell('scenario names', 0);

  /** Each invalidate callback of an importer calls it, with the reservation held. */
  onInvalidate: (importer: EngineImporter) => void = () => {};

  constructor(machine: Machine, profile: Profile) {
    this.machine = machine;
    this.profile = profile;
    const devices = buildVfioDevices(machine.functions, profile);
    this.devices = devices;
    this.drivers = new Drivers(devices, profile);
  }

  /** Scenarios give eventfds by position in `events`, and the engine sees that number as the descriptor. */
  eventSignal(fd: number): EventSignal {
    const event = [...this.events.values()][fd];
    if (event === undefined) throw new Errno('EBADF', `descriptor ${fd} is not an eventfd`);
    return event;
  }

  /** Only looks the eventfd up: no step of the language signals one. */
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

  /** The descriptor of a name. A name that no step made, or whose step failed, gives a bad descriptor. */
  fd(name: string): number {
    return this.fds.get(name) ?? -1;
  }

  /** Installs a file under a name. The table takes the reference, or drops it when the table is full. */
  *install(file: File, as: string): Task<null> {
    try {
      this.fds.set(as, yield* this.files.install(file));
    } catch (error) {
      yield* file.put();
      throw error;
    }
    return null;
  }

  /** dma_buf_get: takes a reference, so another task may close the descriptor. EBADF, EINVAL. */
  getDmabuf(name: string): Task<DmaBuf> {
    return bufferOf(this, this.fd(name));
  }

  dmabuf(name: string): DmaBuf {
    const file = this.files.lookup(this.fd(name));
    if (!(file instanceof DmaBuf)) throw new Errno('EINVAL', `${name} is not a dma-buf`);
    return file;
  }

  /** Detaches a device from its I/O address space, as does the last close of a device. */
  *detachFromIoas(device: string): Task<null> {
    const attached = this.attached.get(device);
    if (attached === undefined) return null;
    this.attached.delete(device);
    this.pciFunction(device).iommuDomain = attached.before;
    yield* attached.ioas.detachDomain(attached.domain);
    return null;
  }
}
