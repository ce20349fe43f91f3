/** Devices on sockets: each listens at a path and has one client at a time. */
import { readdirSync } from 'node:fs';
import { ERRNO, Errno } from '../../abi/errno.ts';
import { EPOLLIN } from '../../abi/poll.ts';
import { closingCount } from '../../linux/closing-thread.ts';
import { OwnedFd } from '../../linux/fd.ts';
import { tryAccept } from '../../linux/socket.ts';
import type { Task } from '../../task/op.ts';
import { runner } from '../../task/runner.ts';
import { WaitQueue } from '../../task/wait-queue.ts';
import type { VfioPciCoreDevice } from '../../vfio/core.ts';
import { beyondLimit, limitHit } from '../../vfio/limit-hits.ts';
import { Exports } from '../dma-buf/exports.ts';
import { IMPORTER_TIMEOUT_MS } from '../dma-buf/limits.ts';
import type { DeviceMonitor, Monitor } from '../monitor/monitor.ts';
import { EventLoop } from '../wire/event-loop.ts';
import { LIMITS } from '../wire/frame.ts';
import type { LimitUse } from '../wire/limit-use.ts';
import { type Log, LogLimiter } from '../wire/log.ts';
import { type TapSink, Taps } from '../wire/tap.ts';
import { ClientConnection } from './client-connection.ts';
import type { Client, SessionHost } from './session-host.ts';
import { SocketPath } from './socket-path.ts';

const ACCEPT_PAUSE_MS = 100;

/** One device at one path. */
export class ServedDevice implements SessionHost {
  readonly loop: EventLoop;
  readonly exports: Exports;
  readonly path: string;
  private readonly server: VfioUserServer;
  private readonly socket: SocketPath;
  private readonly key: number;
  private readonly clients = new Set<ClientConnection>();
  /** Wakes a client that waits until its predecessor is gone. */
  private readonly released = new WaitQueue('the device is free');
  readonly vdev: VfioPciCoreDevice;
  owner: Client | null = null;
  /** When the owner came, in milliseconds since the epoch. */
  ownedSinceMs = 0;
  readonly monitor: DeviceMonitor | null;
  private closed = false;

  constructor(server: VfioUserServer, vdev: VfioPciCoreDevice, path: string) {
    this.monitor = server.monitor?.watch(vdev) ?? null;
    const { loop } = server;
    this.server = server;
    this.loop = loop;
    this.exports = server.exports;
    this.vdev = vdev;
    this.path = path;
    this.socket = new SocketPath(path);
    this.key = loop.add(this.socket.listener.fd, EPOLLIN, () => this.accept());
  }

  /**
   * Claims the device. A client that closes its socket and connects again at once finds it free, however long the end
   * takes.
   */
  *claim(client: Client): Task {
    // The predecessor's end ends this wait: its last requests, then its close.
    if (this.owner?.isLeaving === true) yield* this.released.waitUntil(() => this.owner?.isLeaving !== true);
    if (this.owner !== null) throw new Errno('EBUSY', `${this.vdev.pdev.name} has a client already`);
    this.owner = client;
    this.server.owners += 1;
    this.ownedSinceMs = Date.now();
    this.monitor?.connected(client.peerPid);
  }

  onEnd(client: Client): void {
    if (this.owner === client) {
      this.owner = null;
      this.server.owners -= 1;
      this.monitor?.left(client.peerPid);
    }
    this.clients.delete(client as ClientConnection);
    this.listen(true);
    runner.start('next client', this.released.wake());
  }

  ownerOf(vdev: VfioPciCoreDevice): Client | null {
    return this.server.ownerOf(vdev);
  }

  get clientRoundMs(): number {
    return Math.min(LIMITS.clientRoundMs, LIMITS.clientRoundMsOfAll / this.server.owners);
  }

  get log(): Log {
    return this.server.log;
  }

  get taps(): Taps | null {
    return this.server.taps;
  }

  close(): void {
    this.closed = true;
    this.loop.remove(this.key);
    this.socket.close();
    for (const client of [...this.clients]) client.close(null);
  }

  private accept(): void {
    // A connection may bring descriptors whose close does not end.
    const isClosing = closingCount() >= LIMITS.maxClosing;
    if (isClosing) limitHit('maxClosing');
    const fd = isClosing ? -ERRNO.EMFILE : tryAccept(this.socket.listener);
    if (fd === -ERRNO.EMFILE || fd === -ERRNO.ENFILE || fd === -ERRNO.ENOMEM) {
      this.log(`${this.path}: no descriptor is left for a new client; trying again`, {
        level: 'warn',
        cause: 'no descriptor',
        client: this.vdev.pdev.name,
      });
      this.listen(false);
      this.loop.after(ACCEPT_PAUSE_MS, () => this.listen(true));
      return;
    }
    // The client left before it was accepted.
    if (fd < 0) return;
    const socket = new OwnedFd(fd, `client of ${this.vdev.pdev.name}`);
    try {
      this.clients.add(new ClientConnection(this, this.vdev, socket));
    } catch (error) {
      // The kernel has no room for another connection.
      socket.close();
      if (!(error instanceof Errno)) throw error;
      this.log(`${this.path}: a client was turned away: ${error.message}`, {
        level: 'warn',
        cause: 'turned away',
        client: this.vdev.pdev.name,
      });
    }
    if (this.clients.size > LIMITS.maxWaitingClients + 1) this.dropWaiting();
  }

  /** Makes room: drops the oldest connection without a session, of the process that has most of them. */
  private dropWaiting(): void {
    const waiting = [...this.clients].filter((client) => client !== this.owner);
    const counts = new Map<number, number>();
    for (const { peerPid } of waiting) counts.set(peerPid, (counts.get(peerPid) ?? 0) + 1);
    const most = Math.max(...counts.values());
    const oldest = waiting.find(({ peerPid }) => counts.get(peerPid) === most)!;
    const reason = `${waiting.length} connections wait; ${most} of them are of this process`;
    oldest.close(beyondLimit('maxWaitingClients', 'EMFILE', reason));
  }

  /** The connections besides the owner's. */
  get waiting(): number {
    return [...this.clients].filter((client) => client !== this.owner).length;
  }

  usage(): LimitUse[] {
    const of = this.vdev.pdev.name;
    return [
      { limit: 'maxWaitingClients', of, used: this.waiting, most: LIMITS.maxWaitingClients },
      ...[...this.clients].flatMap((client) => client.usage()),
    ];
  }

  private listen(on: boolean): void {
    if (!this.closed) this.loop.modify(this.key, on ? EPOLLIN : 0);
  }
}

/** All devices of a process, on one thread. */
export class VfioUserServer {
  readonly loop = new EventLoop();
  readonly exports: Exports;
  readonly log: Log;
  private readonly limiter: LogLimiter;
  readonly taps: Taps | null;
  readonly monitor: Monitor | null;
  private readonly served: ServedDevice[] = [];
  /** The number of devices that have a client. */
  owners = 0;

  /** `importerTimeoutMs`: how long an importer in another process may keep mappings and fences after an INVALIDATE. */
  constructor(
    log: Log,
    importerTimeoutMs = IMPORTER_TIMEOUT_MS,
    { tap = null, monitor = null }: { tap?: TapSink | null; monitor?: Monitor | null } = {},
  ) {
    this.monitor = monitor;
    this.limiter = new LogLimiter(this.loop, log);
    this.log = this.limiter.log;
    this.taps = tap === null ? null : new Taps(tap);
    this.exports = new Exports(this.loop, this.log, importerTimeoutMs, this.taps);
    // A defect in one device's task must not stop the other devices, but must be reported.
    runner.onFailure = (task) => {
      const about = { level: 'error', cause: 'defect', client: task.label } as const;
      this.log(`defect: task ${task.label}: ${(task.error as Error).stack}`, about);
    };
  }

  /** Serves a device at `path`. EADDRINUSE when another server listens there. Replaces the socket of a dead server. */
  serve(vdev: VfioPciCoreDevice, path: string): void {
    this.served.push(new ServedDevice(this, vdev, path));
    this.exports.addDevice(vdev);
  }

  /** The devices in the order in which they were served. */
  get devices(): readonly ServedDevice[] {
    return this.served;
  }

  ownerOf(vdev: VfioPciCoreDevice): Client | null {
    return this.served.find((device) => device.vdev === vdev)?.owner ?? null;
  }

  /** Blocks until `stop`. Then no socket, client, mapping or buffer is left. */
  run(): void {
    this.loop.run();
  }

  stop(): void {
    for (const device of this.served.splice(0)) device.close();
    this.exports.closeAll();
    this.limiter.close();
    this.loop.stop();
  }

  /** Open descriptors and live buffers of this process, for reports of leaks. */
  census(): { openFds: number; buffers: number } {
    return { openFds: readdirSync('/proc/self/fd').length, buffers: this.exports.size };
  }
}
