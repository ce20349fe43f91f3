/**
 * Scenarios on served devices: a server in a thread of this process, and a client for each device that a step opens.
 */
import { Errno } from '../../abi/errno.ts';
import { EPOLLIN, POLLIN, POLLOUT } from '../../abi/poll.ts';
import { VFIO_IRQ_SET_DATA_EVENTFD, VFIO_PCI_CONFIG_REGION_INDEX } from '../../abi/vfio.ts';
import {
  VFIO_DEVICE_FEATURE_DMA_BUF,
  VFIO_DEVICE_FEATURE_MASK,
  VFIO_DEVICE_FEATURE_PROBE,
} from '../../abi/vfio-feature.ts';
import { VFIO_USER_F_DMA_REGION_READ, VFIO_USER_F_DMA_REGION_WRITE } from '../../abi/vfio-user.ts';
import { dmaBufLseek } from '../../dma-buf/ioctl.ts';
import { IoatDriver } from '../../drivers/ioat.ts';
import { createEventfd, readEventfd } from '../../linux/eventfd.ts';
import type { OwnedFd } from '../../linux/fd.ts';
import { Mapping } from '../../linux/mapping.ts';
import { createMemfd } from '../../linux/memfd.ts';
import type { ServedMachine } from '../../machine/served.ts';
import { done, type Task } from '../../task/op.ts';
import { VfioUserClient } from '../../vfio-user/client/client.ts';
import { BlockingImporter } from '../../vfio-user/dma-buf/blocking-importer.ts';
import { EventLoop } from '../../vfio-user/wire/event-loop.ts';
import { type Backend, outcome } from '../backend.ts';
import { type ConfigAccess, configStep } from '../config-steps.ts';
import { type FeatureStep, featureArgument } from '../feature-argument.ts';
import type { Step, StepOf, StepResult } from '../step.ts';
import { UnsupportedStepError } from './check.ts';
import { SessionImporter } from './importer.ts';

const READ_WRITE = VFIO_USER_F_DMA_REGION_READ | VFIO_USER_F_DMA_REGION_WRITE;
/** Where lent buffers and the driver's own memory go in an importer's address space. */
const FIRST_IOVA = 0x1_0000_0000;
const STAGING_IOVA = 0x8000_0000;
const STAGING_BYTES = 1 << 20;
/** As long as a client waits for a reply. */
const MAX_WAIT_MS = 10_000;

/** Config space through a connection. */
export function configOf(client: VfioUserClient): ConfigAccess {
  return {
    name: client.path,
    read: (offset, into) => done(client.readRegion(VFIO_PCI_CONFIG_REGION_INDEX, offset, into)),
    write: (offset, from) => done(client.writeRegion(VFIO_PCI_CONFIG_REGION_INDEX, offset, from)),
  };
}

interface LentBuffer {
  fd: OwnedFd;
  sizeBytes: number;
}

/** A device that borrows: a buffer is DMA_MAPped on its connection, and its engine does the copies. */
interface Importer {
  device: string;
  buffer: LentBuffer;
  mappings: Set<string>;
}

/** `iova` is null in a session. */
type Mapped = { importer: Importer; iova: number } | { importer: SessionImporter; iova: null };

export class VfioUserBackend implements Backend {
  readonly name = 'vfio-user';
  readonly isLinux: boolean;
  private readonly served: ServedMachine;
  private readonly clients = new Map<string, VfioUserClient>();
  private readonly buffers = new Map<string, LentBuffer>();
  private readonly maps = new Map<string, Mapping>();
  private readonly events = new Map<string, OwnedFd>();
  private readonly importers = new Map<string, Importer | SessionImporter>();
  private readonly mappings = new Map<string, Mapped>();
  /** Sessions with exporters, who are answered while a client waits for the reply of its device. */
  private readonly loop = new EventLoop();
  private readonly engines = new Map<string, Engine>();
  private nextIova = FIRST_IOVA;

  /** `isLinux` where the server's profile behaves as Linux does. */
  constructor(served: ServedMachine, isLinux = false) {
    this.served = served;
    this.isLinux = isLinux;
  }

  perform(step: Step): Task<StepResult> {
    return outcome(this.take(step));
  }

  *dispose(): Task {
    for (const mapping of this.maps.values()) mapping.close();
    for (const { fd } of this.buffers.values()) fd.close();
    for (const event of this.events.values()) event.close();
    for (const engine of this.engines.values()) engine.close();
    for (const importer of this.importers.values()) if (importer instanceof SessionImporter) importer.close();
    for (const client of this.clients.values()) client.close();
    this.loop.close();
  }

  /** Answers exporters until a socket of a client can be read; its own timeout ends a longer wait. */
  private answerUntil(socket: number): void {
    let isReady = false;
    const key = this.loop.add(socket, EPOLLIN, () => {
      isReady = true;
    });
    const end = performance.now() + MAX_WAIT_MS;
    while (!isReady && performance.now() < end) this.loop.turn(Math.max(0, Math.ceil(end - performance.now())));
    this.loop.remove(key);
  }

  private *take(step: Step): Task<unknown> {
    if ('device' in step && !('fd' in step)) return yield* this.deviceStep(step);
    if ('importer' in step || step.op === 'attach') return this.importerStep(step);
    return this.otherStep(step);
  }

  private client(device: string): VfioUserClient {
    const client = this.clients.get(device);
    if (client === undefined) throw new Errno('EBADF', `${device} is not open`);
    return client;
  }

  private *deviceStep(step: Step & { device: string }): Task<unknown> {
    if (step.op === 'open') return this.open(step);
    const client = this.client(step.device);
    switch (step.op) {
      case 'close':
        this.engines.get(step.device)?.close();
        this.engines.delete(step.device);
        this.clients.delete(step.device);
        return client.closeAndWait();
      case 'info':
        return client.info();
      case 'region-info': {
        const { flags, sizeBytes, map } = client.regionInfo(step.region);
        map?.fd.close();
        return { flags, sizeBytes };
      }
      case 'irq-info':
        return client.irqInfo(step.index);
      case 'reset':
        return client.reset();
      case 'hot-reset':
        return client.hotReset();
      case 'hot-reset-info':
        return client.hotResetInfo().length;
      case 'region-read': {
        const into = Buffer.alloc(step.length);
        client.readRegion(step.region, Number(step.offset), into);
        return into.toString('hex');
      }
      case 'region-write': {
        const bytes = Buffer.from(step.bytes, 'hex');
        client.writeRegion(step.region, Number(step.offset), bytes);
        return bytes.length;
      }
      case 'mmap':
        this.maps.set(step.as, client.mapRegion(step.region, Number(step.offset), Number(step.length)));
        return null;
      case 'set-irqs':
        return this.setIrqs(client, step);
      case 'feature':
      case 'export':
      case 'low-power-entry':
      case 'low-power-entry-with-wakeup':
      case 'low-power-exit':
        return this.featureStep(client, step);
      default:
        return yield* configStep(configOf(client), step);
    }
  }

  private open(step: StepOf<'open'>): null {
    const device = this.served.devices.find(({ name }) => name === step.device);
    if (device === undefined) throw new Error(`the machine has no device ${step.device}`);
    if (this.clients.has(step.device)) throw new UnsupportedStepError(step, 'a device has one client');
    const whileWaiting = (socket: number) => this.answerUntil(socket);
    this.clients.set(step.device, new VfioUserClient(device.socket, { whileWaiting }));
    return null;
  }

  private setIrqs(client: VfioUserClient, step: StepOf<'set-irqs'>): null {
    const names = step.events ?? [];
    const given = names.filter((event) => typeof event === 'string');
    const fds = given.map((event) => this.event(event).fd);
    const isEvents = (step.flags & VFIO_IRQ_SET_DATA_EVENTFD) !== 0;
    const data = isEvents ? undefined : Uint8Array.from(step.bools ?? []);
    client.setIrqs(step.flags, step.index, step.start, step.count, data, fds);
    return null;
  }

  private event(name: string): OwnedFd {
    let event = this.events.get(name);
    if (event === undefined) {
      event = createEventfd(name);
      this.events.set(name, event);
    }
    return event;
  }

  private featureStep(client: VfioUserClient, step: FeatureStep): unknown {
    const wakes = step.op === 'low-power-entry-with-wakeup';
    const argument = featureArgument(step, 0);
    const { fds } = client.feature(argument, wakes ? [this.event(step.as).fd] : []);
    const flags = argument.readUInt32LE(4);
    const isExport =
      (flags & VFIO_DEVICE_FEATURE_MASK) === VFIO_DEVICE_FEATURE_DMA_BUF && (flags & VFIO_DEVICE_FEATURE_PROBE) === 0;
    if (!isExport) return 0;
    const [fd] = fds;
    if (fd === undefined) throw new Errno('EPROTO', 'an export without a descriptor');
    const as = 'as' in step ? step.as : undefined;
    if (as === undefined) fd.close();
    else this.buffers.set(as, { fd, sizeBytes: exportedBytes(argument) });
    return null;
  }

  private buffer(name: string): LentBuffer {
    const buffer = this.buffers.get(name);
    if (buffer === undefined) throw new Errno('EBADF', `there is no descriptor ${name}`);
    return buffer;
  }

  private importerStep(step: Step): unknown {
    switch (step.op) {
      case 'attach': {
        const buffer = this.buffer(step.fd);
        // A device with a client borrows by itself.
        const importer = this.clients.has(step.device)
          ? { device: step.device, buffer, mappings: new Set<string>() }
          : new SessionImporter(this.loop, buffer.fd);
        this.importers.set(step.as, importer);
        return null;
      }
      case 'map': {
        const importer = find(this.importers, step.importer, 'importer');
        return importer instanceof SessionImporter
          ? this.mapSession(importer, step.as)
          : this.mapDevice(importer, step.as);
      }
      case 'detach': {
        const importer = find(this.importers, step.importer, 'importer');
        this.importers.delete(step.importer);
        if (importer instanceof SessionImporter) importer.detach();
        else for (const map of importer.mappings) this.unmap(map);
        return null;
      }
      case 'callbacks': {
        const importer = find(this.importers, step.importer, 'importer');
        if (!(importer instanceof SessionImporter)) throw new UnsupportedStepError(step, 'the device is its own');
        // What the exporter said on its own, as RESTORE, may not have been looked at.
        while (this.loop.turn(0)) {}
        return importer.takeCallbacks();
      }
      default:
        throw new UnsupportedStepError(step, 'the importer is a process of its own');
    }
  }

  private mapSession(importer: SessionImporter, name: string): number[] {
    const lengths = importer.map(name);
    this.mappings.set(name, { importer, iova: null });
    return lengths;
  }

  private mapDevice(importer: Importer, name: string): number[] {
    const iova = this.nextIova;
    const { fd, sizeBytes } = importer.buffer;
    this.client(importer.device).dmaMap(iova, sizeBytes, READ_WRITE, fd.fd);
    this.nextIova += sizeBytes;
    this.mappings.set(name, { importer, iova });
    importer.mappings.add(name);
    return [sizeBytes];
  }

  private unmap(name: string): null {
    const { importer, iova } = find(this.mappings, name, 'mapping');
    this.mappings.delete(name);
    if (iova === null) importer.unmap(name);
    else {
      importer.mappings.delete(name);
      this.client(importer.device).dmaUnmap(iova, importer.buffer.sizeBytes);
    }
    return null;
  }

  /** What is asked of a buffer through its descriptor: a session, for as long as it takes. */
  private ask<T>(name: string, question: (client: BlockingImporter) => T): T {
    const client = new BlockingImporter(this.buffer(name).fd, { onInvalidate: () => {} }, this.loop);
    try {
      return question(client);
    } finally {
      client.close();
    }
  }

  private otherStep(step: Step): unknown {
    switch (step.op) {
      case 'close-fd':
        this.buffer(step.fd).fd.close();
        this.buffers.delete(step.fd);
        return null;
      case 'dup-fd': {
        const { fd, sizeBytes } = this.buffer(step.fd);
        this.buffers.set(step.as, { fd: fd.duplicate(), sizeBytes });
        return null;
      }
      case 'lseek':
        return this.ask(step.fd, (client) => dmaBufLseek(client.query(), step.offset, step.whence));
      case 'set-name':
        return this.ask(step.fd, (client) => client.setName(step.name)) ?? null;
      case 'fdinfo': {
        const { sizeBytes, exporter: exp_name, name } = this.ask(step.fd, (client) => client.query());
        return { size: String(sizeBytes), exp_name, ...(name === '' ? {} : { name }) };
      }
      case 'poll': {
        const ready = this.ask(step.fd, (client) => client.wait(POLLIN | POLLOUT, 0));
        return { readable: (ready & POLLIN) !== 0, writable: (ready & POLLOUT) !== 0 };
      }
      case 'event-count': {
        const event = this.events.get(step.event);
        return event === undefined ? 0 : readEventfd(event.fd);
      }
      case 'mmap-read': {
        const into = Buffer.alloc(step.length);
        find(this.maps, step.map, 'mapping').read(Number(step.offset), into);
        return into.toString('hex');
      }
      case 'mmap-write':
        return find(this.maps, step.map, 'mapping').write(Number(step.offset), Buffer.from(step.bytes, 'hex'));
      case 'munmap':
        find(this.maps, step.map, 'mapping').close();
        this.maps.delete(step.map);
        return null;
      case 'unmap':
        return this.unmap(step.map);
      case 'dma-write':
      case 'dma-read':
        return this.dma(step);
      default:
        throw new UnsupportedStepError(step, 'the descriptor is a socket');
    }
  }

  private dma(step: StepOf<'dma-write' | 'dma-read'>): unknown {
    const { importer, iova } = find(this.mappings, step.map, 'mapping');
    if (iova === null) throw new UnsupportedStepError(step, 'the device of the importer is not open');
    let engine = this.engines.get(importer.device);
    if (engine === undefined) {
      engine = new Engine(this.client(importer.device));
      this.engines.set(importer.device, engine);
    }
    const at = iova + Number(step.offset);
    if (step.op === 'dma-write') return engine.write(at, Buffer.from(step.bytes, 'hex'));
    return engine.read(at, step.length).toString('hex');
  }
}

/** The driver of an importer's DMA engine, with memory of its own to copy from and to. */
class Engine {
  private readonly driver: IoatDriver;
  private readonly staging: Mapping;

  constructor(client: VfioUserClient) {
    const memfd = createMemfd('staging', STAGING_BYTES);
    const what = 'staging memory';
    this.staging = Mapping.map({ fd: memfd.fd, offset: 0, sizeBytes: STAGING_BYTES, writable: true, what });
    client.dmaMap(STAGING_IOVA, STAGING_BYTES, READ_WRITE, memfd.fd);
    memfd.close();
    this.driver = new IoatDriver(client);
  }

  write(iova: number, bytes: Uint8Array): number {
    this.staging.write(0, bytes);
    this.copy(STAGING_IOVA, iova, bytes.length);
    return bytes.length;
  }

  read(iova: number, length: number): Buffer {
    const bytes = Buffer.alloc(length);
    this.copy(iova, STAGING_IOVA, length);
    this.staging.read(0, bytes);
    return bytes;
  }

  close(): void {
    this.driver.close();
    this.staging.close();
  }

  private copy(source: number, destination: number, length: number): void {
    const status = this.driver.copy(source, destination, length);
    if (status !== 'ok') throw new Errno('EIO', `DMA: ${status}`);
  }
}

function find<T>(map: ReadonlyMap<string, T>, key: string, kind: string): T {
  const value = map.get(key);
  if (value === undefined) throw new Errno('EBADF', `there is no ${kind} ${key}`);
  return value;
}

/** The size of an export that succeeded: the sum of its ranges. */
function exportedBytes(argument: Buffer): number {
  let sum = 0;
  for (let i = 0; i < argument.readUInt32LE(20); i++) sum += Number(argument.readBigUInt64LE(32 + 16 * i));
  return sum;
}
