/** Everything that a scenario's steps have made on served devices, by name. */
import { EPOLLIN } from '../../abi/poll.ts';
import { createEventfd } from '../../linux/eventfd.ts';
import type { OwnedFd } from '../../linux/fd.ts';
import type { Mapping } from '../../linux/mapping.ts';
import type { ServedMachine } from '../../machine/served.ts';
import type { Proposed } from '../../vfio/profile.ts';
import { VfioUserClient } from '../../vfio-user/client/client.ts';
import { EventLoop } from '../../vfio-user/wire/event-loop.ts';
import { named } from '../backend.ts';
import type { CopyEngine } from './copy-engine.ts';
import type { SessionImporter } from './session-importer.ts';

/** The first IOVA of lent buffers in an importer's address space. */
const FIRST_IOVA = 0x1_0000_0000;
/** Equals a client's timeout for a reply. */
const MAX_WAIT_MS = 10_000;

export interface LentBuffer {
  fd: OwnedFd;
  sizeBytes: number;
}

/** A device that borrows: a buffer is DMA_MAPped on its connection, and its engine does the copies. */
export interface DeviceImporter {
  device: string;
  buffer: LentBuffer;
  /** The names of its mappings. */
  mappings: Set<string>;
}

/** `iova` is null in a session. */
type MappedBuffer = { importer: DeviceImporter; iova: number } | { importer: SessionImporter; iova: null };

export class VfioUserWorld {
  private readonly served: Pick<ServedMachine, 'devices'>;
  readonly proposed: Proposed | null;
  readonly clients = new Map<string, VfioUserClient>();
  readonly buffers = new Map<string, LentBuffer>();
  readonly maps = new Map<string, Mapping>();
  readonly events = new Map<string, OwnedFd>();
  readonly importers = new Map<string, DeviceImporter | SessionImporter>();
  readonly mappings = new Map<string, MappedBuffer>();
  /** Serves the sessions with exporters while a client waits for its device's reply. */
  readonly loop = new EventLoop();
  /** The DMA engines of the devices that did DMA, by device. */
  readonly engines = new Map<string, CopyEngine>();
  private nextIova = FIRST_IOVA;

  constructor(served: Pick<ServedMachine, 'devices'>, proposed: Proposed | null) {
    this.served = served;
    this.proposed = proposed;
  }

  /** Opens a device of the machine: connects a client to its socket. */
  connect(name: string): void {
    const device = this.served.devices.find((candidate) => candidate.name === name);
    if (device === undefined) throw new Error(`the machine has no device ${name}`);
    const whileWaiting = (socket: number) => this.answerUntil(socket);
    this.clients.set(name, new VfioUserClient(device.socket, { whileWaiting }));
  }

  client(device: string): VfioUserClient {
    return named(this.clients, device, 'open device');
  }

  buffer(name: string): LentBuffer {
    return named(this.buffers, name, 'descriptor');
  }

  event(name: string): OwnedFd {
    let event = this.events.get(name);
    if (event === undefined) {
      event = createEventfd(name);
      this.events.set(name, event);
    }
    return event;
  }

  /** Allocates addresses for a buffer that no other buffer has. */
  allocateIova(sizeBytes: number): number {
    const iova = this.nextIova;
    this.nextIova += sizeBytes;
    return iova;
  }

  close(): void {
    for (const mapping of this.maps.values()) mapping.close();
    for (const { fd } of this.buffers.values()) fd.close();
    for (const event of this.events.values()) event.close();
    for (const engine of this.engines.values()) engine.close();
    for (const importer of this.importers.values()) if ('close' in importer) importer.close();
    for (const client of this.clients.values()) client.close();
    this.loop.close();
  }

  /** Answers exporters until a client's socket is readable; the client's timeout ends a longer wait. */
  private answerUntil(socket: number): void {
    let isReady = false;
    const key = this.loop.add(socket, EPOLLIN, () => {
      isReady = true;
    });
    const end = performance.now() + MAX_WAIT_MS;
    while (!isReady && performance.now() < end) this.loop.turn(Math.max(0, Math.ceil(end - performance.now())));
    this.loop.remove(key);
  }
}
