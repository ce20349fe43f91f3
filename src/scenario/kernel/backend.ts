/** Scenarios on a real kernel: /dev/vfio for devices, the lab's module for importers. */
import { Errno } from '../../abi/errno.ts';
import {
  dmaBufExportSyncFile,
  dmaBufFdinfo,
  dmaBufFileCall,
  dmaBufImportSyncFile,
  dmaBufMap,
  dmaBufPoll,
  dmaBufSeek,
  dmaBufSetName,
  dmaBufSync,
} from '../../linux/dma-buf.ts';
import { createEventfd, readEventfd } from '../../linux/eventfd.ts';
import type { OwnedFd } from '../../linux/fd.ts';
import { GuardedCopy } from '../../linux/guarded-copy.ts';
import type { LabImporter } from '../../linux/lab-importer.ts';
import type { Mapping } from '../../linux/mapping.ts';
import { Iommufd } from '../../linux/vfio/iommufd.ts';
import type { Task } from '../../task/op.ts';
import { type Backend, outcome } from '../backend.ts';
import { isIoasStep } from '../ioas-steps.ts';
import type { Step, StepResult } from '../step.ts';
import { linuxDeviceStep, startLinuxStep } from './device.ts';
import type { OpenDevice } from './files.ts';
import { linuxImporterStep } from './importer.ts';
import { linuxIoasStep } from './ioas.ts';
import { LinuxStartedSteps, type StartedThreads } from './started.ts';

/** Everything that a scenario's steps have made, by the names that they gave. */
export class LinuxWorld {
  /** The PCI address of each device that scenarios name. */
  readonly addresses: ReadonlyMap<string, string>;
  readonly devices = new Map<string, OpenDevice>();
  readonly fds = new Map<string, OwnedFd>();
  readonly maps = new Map<string, Mapping>();
  readonly events = new Map<string, OwnedFd>();
  readonly importers = new Map<string, LabImporter>();
  readonly mappings = new Map<string, { importer: LabImporter; id: number }>();
  readonly fences = new Map<string, { importer: LabImporter; id: number }>();
  readonly ioases = new Map<string, number>();
  /** Devices that are attached to an IOAS. */
  readonly attached = new Set<string>();
  /** Devices in low power that nothing but its exit ends: what wakes them does so for as long as it takes. */
  readonly asleep = new Set<string>();
  readonly copy = new GuardedCopy();
  readonly started: LinuxStartedSteps;
  private iommufd: Iommufd | null = null;

  constructor(addresses: ReadonlyMap<string, string>, threads: StartedThreads | null) {
    this.addresses = addresses;
    this.started = new LinuxStartedSteps(threads);
  }

  address(device: string): string {
    const address = this.addresses.get(device);
    if (address === undefined) {
      throw new Error(`no PCI address was given for device ${device}; known: ${[...this.addresses.keys()].join(', ')}`);
    }
    return address;
  }

  fd(name: string): OwnedFd {
    return named(this.fds, name, 'descriptor');
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
    for (const fd of this.fds.values()) fd.close();
    for (const device of this.devices.values()) device.closeAll();
    this.iommufd?.close();
    for (const event of this.events.values()) event.close();
    this.copy.close();
  }
}

export interface LinuxOptions {
  /** For scenarios with steps that start others. */
  threads?: StartedThreads;
}

export class LinuxBackend implements Backend {
  readonly name: string;
  readonly isLinux = true;
  readonly world: LinuxWorld;

  /** `addresses` by the names that the scenario has for devices; the lender is bound to vfio-pci by whoever calls. */
  constructor(release: string, addresses: ReadonlyMap<string, string>, options: LinuxOptions = {}) {
    this.name = `linux ${release}`;
    this.world = new LinuxWorld(addresses, options.threads ?? null);
  }

  *perform(step: Step): Task<StepResult> {
    const { started } = this.world;
    if (step.op === 'join') return started.join(step.of);
    const result = yield* outcome(take(this.world, step));
    started.settle();
    return result;
  }

  *dispose(): Task {
    this.world.close();
  }
}

function* take(world: LinuxWorld, step: Step): Task<unknown> {
  if (isIoasStep(step)) return linuxIoasStep(world, step);
  if (step.op === 'start') return startLinuxStep(world, step);
  if ('device' in step && !('fd' in step)) return yield* linuxDeviceStep(world, step);
  if ('importer' in step || step.op === 'attach') return linuxImporterStep(world, step);
  return otherStep(world, step);
}

function otherStep(world: LinuxWorld, step: Step): unknown {
  switch (step.op) {
    case 'close-fd': {
      const fd = world.fd(step.fd);
      world.fds.delete(step.fd);
      return fd.close();
    }
    case 'dup-fd':
      world.fds.set(step.as, world.fd(step.fd).duplicate());
      return null;
    case 'lseek':
      return dmaBufSeek(world.fd(step.fd), step.offset, step.whence);
    case 'mmap-fd':
      return dmaBufMap(world.fd(step.fd), 4096).close();
    case 'fd-call':
      return dmaBufFileCall(world.fd(step.fd), step.call);
    case 'set-name':
      return dmaBufSetName(world.fd(step.fd), step.name);
    case 'sync':
      return dmaBufSync(world.fd(step.fd), step.flags);
    case 'poll':
      return dmaBufPoll(world.fd(step.fd));
    case 'fdinfo': {
      const { size, exp_name, name } = dmaBufFdinfo(world.fd(step.fd));
      return { size, exp_name, ...(name === undefined ? {} : { name }) };
    }
    case 'export-sync-file':
      world.fds.set(step.as, dmaBufExportSyncFile(world.fd(step.fd), step.flags));
      return null;
    case 'import-sync-file':
      return dmaBufImportSyncFile(world.fd(step.fd), step.flags, world.fds.get(step.sync)?.fd ?? -1);
    case 'event-count': {
      const event = world.events.get(step.event);
      return event === undefined ? 0 : readEventfd(event.fd);
    }
    default:
      return mappingStep(world, step);
  }
}

function mappingStep(world: LinuxWorld, step: Step): unknown {
  switch (step.op) {
    case 'mmap-read': {
      const map = named(world.maps, step.map, 'mapping');
      return busError(() => world.copy.read(map.address + Number(step.offset), step.length).toString('hex'));
    }
    case 'mmap-write': {
      const map = named(world.maps, step.map, 'mapping');
      return busError(() => world.copy.write(map.address + Number(step.offset), Buffer.from(step.bytes, 'hex')));
    }
    case 'munmap':
      named(world.maps, step.map, 'mapping').close();
      world.maps.delete(step.map);
      return null;
    default:
      return linuxImporterStep(world, step);
  }
}

/** A fault on a mapped BAR is what the CPU would get as SIGBUS. */
function busError<T>(access: () => T): T {
  try {
    return access();
  } catch (error) {
    if (!(error instanceof Errno) || error.errno !== 'EFAULT') throw error;
    const fault = new Error('SIGBUS: the BAR does not answer');
    fault.name = 'BusError';
    throw fault;
  }
}

export function named<T>(map: ReadonlyMap<string, T>, key: string, kind: string): T {
  const value = map.get(key);
  if (value === undefined) throw new Errno('EBADF', `there is no ${kind} ${key}`);
  return value;
}
