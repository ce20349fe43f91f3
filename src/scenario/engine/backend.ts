/** Scenarios on Barter's own engine, in process: what `barter run` does by default, and what the explorer drives. */
import { Errno } from '../../abi/errno.ts';
import { DmaBuf } from '../../dma-buf/dma-buf.ts';
import { FdTable, type File } from '../../dma-buf/file.ts';
import {
  dmaBufExportSyncFile,
  dmaBufFdinfo,
  dmaBufFileCall,
  dmaBufImportSyncFile,
  dmaBufLseek,
  dmaBufMmap,
  dmaBufPoll,
  dmaBufSetName,
  dmaBufSync,
} from '../../dma-buf/ioctl.ts';
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
import { PROFILES, type Profile } from '../../vfio/profile.ts';
import type { Caller, EventSignal, EventSource } from '../../vfio/user.ts';
import { type Backend, outcome } from '../backend.ts';
import { isIoasStep } from '../ioas-steps.ts';
import type { Step, StepResult } from '../step.ts';
import { deviceStep } from './device.ts';
import { DeviceFiles } from './files.ts';
import { type EngineImporter, type ImporterMapping, importerStep } from './importer.ts';
import { detachFromIoas, engineIoasStep } from './ioas.ts';
import { StartedSteps } from './started.ts';

/** An eventfd of the scenario's: it counts. */
export class CountingEvent implements EventSignal {
  count = 0;

  signal(): void {
    this.count += 1;
  }
}

/** Everything that a scenario's steps have made, by the names that they gave. */
export class EngineWorld implements Caller {
  readonly machine: Machine;
  readonly profile: Profile;
  readonly devices: ReadonlyMap<string, VfioPciCoreDevice>;
  readonly files = new FdTable();
  readonly deviceFiles = new DeviceFiles(({ pdev }) => detachFromIoas(this, pdev.name));
  readonly fds = new Map<string, number>();
  readonly importers = new Map<string, EngineImporter>();
  /** Whose invalidate callbacks came, by name. */
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
    if (event === undefined) throw new Errno('EBADF', `descriptor ${fd} is no eventfd`);
    return event;
  }

  /** No step of the language signals an eventfd: it is only looked up. */
  eventSource(fd: number): EventSource {
    this.eventSignal(fd);
    return { release() {} };
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

  /** dma_buf_get: with a reference, so that another task may close the descriptor. EBADF, EINVAL. */
  *getDmabuf(name: string): Task<DmaBuf> {
    const file = yield* this.files.get(this.fd(name));
    if (file instanceof DmaBuf) return file;
    yield* file.put();
    throw new Errno('EINVAL', `${name} is no dma-buf`);
  }

  dmabuf(name: string): DmaBuf {
    const file = this.files.lookup(this.fd(name));
    if (!(file instanceof DmaBuf)) throw new Errno('EINVAL', `${name} is no dma-buf`);
    return file;
  }
}

export class EngineBackend implements Backend {
  readonly name: string;
  readonly isLinux: boolean;
  readonly world: EngineWorld;

  constructor(machine: Machine, profile: Profile = PROFILES.default) {
    this.name = `engine (${profile.name})`;
    this.isLinux = profile.name === 'linux-7.3';
    this.world = new EngineWorld(machine, profile);
  }

  perform(step: Step): Task<StepResult> {
    const { started } = this.world;
    if (step.op === 'join') return started.join(step.of);
    return started.isEmpty ? outcome(take(this.world, step)) : started.letRunAfter(outcome(take(this.world, step)));
  }

  /** What the exit of the process does: importers first, then descriptors, then devices. */
  *dispose(): Task {
    const world = this.world;
    // What still waits for a fence holds locks that are needed here.
    for (const fence of world.fences.values()) yield* fence.signal();
    for (const importer of world.importers.values()) yield* importer.dispose();
    for (const device of [...world.attached.keys()]) yield* detachFromIoas(world, device);
    for (const ioas of world.ioases.values()) yield* ioas.destroy();
    yield* world.files.closeAll();
    yield* world.deviceFiles.closeAll();
  }
}

function take(world: EngineWorld, step: Step): Task<unknown> {
  if (isIoasStep(step)) return engineIoasStep(world, step);
  if (step.op === 'start') return world.started.start(step.as, outcome(deviceStep(world, step.step)));
  if ('device' in step && !('fd' in step)) return deviceStep(world, step);
  if ('importer' in step || step.op === 'attach') return importerStep(world, step);
  return otherStep(world, step);
}

function* otherStep(world: EngineWorld, step: Step): Task<unknown> {
  switch (step.op) {
    case 'close-fd': {
      const fd = world.fd(step.fd);
      world.fds.delete(step.fd);
      return yield* world.files.close(fd);
    }
    case 'dup-fd': {
      const file = yield* world.files.get(world.fd(step.fd));
      return yield* install(world, file, step.as);
    }
    case 'lseek':
      return dmaBufLseek(world.dmabuf(step.fd), step.offset, step.whence);
    case 'mmap-fd':
      return dmaBufMmap(world.dmabuf(step.fd));
    case 'fd-call':
      return dmaBufFileCall(world.dmabuf(step.fd), step.call);
    case 'set-name':
      return dmaBufSetName(world.dmabuf(step.fd), step.name);
    case 'sync':
      return yield* dmaBufSync(world.dmabuf(step.fd), step.flags);
    case 'poll':
      return dmaBufPoll(world.dmabuf(step.fd));
    case 'fdinfo': {
      const { size, exp_name, name } = dmaBufFdinfo(world.dmabuf(step.fd));
      return { size, exp_name, ...(name === undefined ? {} : { name }) };
    }
    case 'export-sync-file': {
      const sync = yield* dmaBufExportSyncFile(world.dmabuf(step.fd), step.flags);
      return yield* install(world, sync, step.as);
    }
    case 'import-sync-file': {
      const sync = world.fds.has(step.sync) ? world.files.lookup(world.fd(step.sync)) : null;
      return yield* dmaBufImportSyncFile(world.dmabuf(step.fd), step.flags, sync);
    }
    case 'event-count': {
      const event = world.events.get(step.event);
      const count = event?.count ?? 0;
      if (event !== undefined) event.count = 0;
      return count;
    }
    default:
      return yield* mappingStep(world, step);
  }
}

function* mappingStep(world: EngineWorld, step: Step): Task<unknown> {
  switch (step.op) {
    case 'mmap-read': {
      const into = new Uint8Array(step.length);
      yield* mapOf(world, step.map).read(Number(step.offset), into);
      return Buffer.from(into).toString('hex');
    }
    case 'mmap-write':
      return yield* mapOf(world, step.map).write(Number(step.offset), Buffer.from(step.bytes, 'hex'));
    case 'munmap':
      yield* world.deviceFiles.munmap(mapOf(world, step.map));
      world.maps.delete(step.map);
      return null;
    case 'signal-fence': {
      const fence = named(world.fences, step.fence, 'fence');
      world.fences.delete(step.fence);
      return yield* fence.signal();
    }
    default:
      return yield* importerStep(world, step);
  }
}

export function named<T>(map: ReadonlyMap<string, T>, key: string, kind: string): T {
  const value = map.get(key);
  if (value === undefined) throw new Errno('EBADF', `there is no ${kind} ${key}`);
  return value;
}

function mapOf(world: EngineWorld, key: string): BarMapping {
  return named(world.maps, key, 'mapping');
}

/** Puts a file under a name; the reference goes to the table, or is dropped when the table is full. */
function* install(world: EngineWorld, file: File, as: string): Task<null> {
  try {
    world.fds.set(as, yield* world.files.install(file));
  } catch (error) {
    yield* file.put();
    throw error;
  }
  return null;
}
