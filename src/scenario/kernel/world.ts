/** Everything that a scenario's steps have made on a real kernel, by name. */
import { createEventfd } from '../../linux/eventfd.ts';
import type { OwnedFd } from '../../linux/fd.ts';
import type { Hold } from '../../linux/hold.ts';
import type { LabImporter } from '../../linux/lab-importer.ts';
import type { Mapping } from '../../linux/mapping.ts';
import { Iommufd } from '../../linux/vfio/iommufd.ts';
import type { Proposed } from '../../vfio/profile.ts';
import { named } from '../backend.ts';
import type { OpenDevice } from './files.ts';
import { LinuxStartedSteps, type StartedThreads } from './started.ts';
import { bringBack } from './sysfs-files.ts';

export class LinuxWorld {
  /** The PCI address of each device that scenarios name. */
  readonly addresses: ReadonlyMap<string, string>;
  readonly proposed: Proposed | null;
  readonly devices = new Map<string, OpenDevice>();
  readonly fds = new Map<string, OwnedFd>();
  readonly holds = new Map<string, Hold>();
  readonly maps = new Map<string, Mapping>();
  readonly events = new Map<string, OwnedFd>();
  readonly importers = new Map<string, LabImporter>();
  readonly mappings = new Map<string, { importer: LabImporter; id: number }>();
  readonly fences = new Map<string, { importer: LabImporter; id: number }>();
  readonly ioases = new Map<string, number>();
  /** Devices that are attached to an IOAS. */
  readonly attached = new Set<string>();
  /**
   * Devices in low power without a wakeup event: only LOW_POWER_EXIT ends it. An access wakes such a device only while
   * the access lasts.
   */
  readonly asleep = new Set<string>();
  readonly started: LinuxStartedSteps;
  /** Devices that root took off the bus, or whose driver it took away. They are brought back at the end. */
  readonly takenAway = new Set<string>();
  private iommufd: Iommufd | null = null;

  constructor(addresses: ReadonlyMap<string, string>, threads: StartedThreads | null, proposed: Proposed | null) {
    this.addresses = addresses;
    this.proposed = proposed;
    this.started = new LinuxStartedSteps(threads);
  }

  address(device: string): string {
    const address = this.addresses.get(device);
    if (address === undefined) {
      throw new Error(`no PCI address was given for device ${device}; known: ${[...this.addresses.keys()].join(', ')}`);
    }
    return address;
  }

  /** The open device of a name. EBADF where it is not open. */
  device(name: string): OpenDevice {
    return named(this.devices, name, 'open device');
  }

  fd(name: string): OwnedFd {
    return named(this.fds, name, 'descriptor');
  }

  /** The number of a descriptor, or -1 where no step made it: for calls that the kernel must refuse. */
  fdNumber(name: string): number {
    return this.fds.get(name)?.fd ?? -1;
  }

  event(name: string): OwnedFd {
    let event = this.events.get(name);
    if (event === undefined) {
      event = createEventfd(name);
      this.events.set(name, event);
    }
    return event;
  }

  /** /dev/iommu, opened at its first use. ENOENT on kernels without iommufd. */
  get iommu(): Iommufd {
    this.iommufd ??= Iommufd.open();
    return this.iommufd;
  }

  close(): void {
    for (const importer of this.importers.values()) importer.close();
    this.started.settle();
    for (const map of this.maps.values()) map.close();
    for (const hold of this.holds.values()) hold.release();
    for (const fd of this.fds.values()) fd.close();
    for (const device of this.devices.values()) device.closeAll();
    this.iommufd?.close();
    for (const event of this.events.values()) event.close();
    // A driver that waited for the closes above lets go now.
    this.started.settleAll();
    bringBack(this.addresses, this.takenAway);
  }
}
