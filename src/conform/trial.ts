/** The try of one rule on one device: its connections, its record, and the files that it made. */
import { readdirSync } from 'node:fs';
import { errnoName } from '../abi/errno.ts';
import { F_ADD_SEALS, F_SEAL_WRITE } from '../abi/fcntl.ts';
import { MFD_ALLOW_SEALING, MFD_CLOEXEC } from '../abi/mman.ts';
import { POLLIN } from '../abi/poll.ts';
import { VFIO_USER_DEVICE_GET_INFO, VFIO_USER_VERSION } from '../abi/vfio-user.ts';
import { createEventfd, readEventfd } from '../linux/eventfd.ts';
import { OwnedFd } from '../linux/fd.ts';
import { check, sys } from '../linux/ffi.ts';
import { pause } from '../linux/pause.ts';
import { pollOne } from '../linux/poll.ts';
import { connectUnix, peerCredentials, setSocketTimeout } from '../linux/socket.ts';
import type { DeviceDriver } from './drivers/driver.ts';
import { TrialLog } from './exchange.ts';
import { type Facts, PROPOSAL } from './facts.ts';
import { mayListenLater, RawPeer } from './peer.ts';
import * as request from './requests.ts';
import { BROKEN, demand, HANGS, NoServiceOutcome, notApplicable } from './verdict.ts';

/** Between two attempts to connect to a server that does not listen yet. */
const RETRY_MS = 2;
/** How long a signal that must not come has to come after all. */
const SILENCE_MS = 5;

export interface TrialTarget {
  /** The path of the server's socket. */
  socket: string;
  /** The longest wait for an answer. */
  timeoutMs: number;
}

export class Trial {
  readonly exchange = new TrialLog();
  readonly facts: Facts;
  /** Makes the device do DMA and interrupt; null where no driver knows the device. */
  readonly driver: DeviceDriver | null;
  private readonly target: TrialTarget;
  private readonly peers: RawPeer[] = [];
  private readonly files: OwnedFd[] = [];
  private attempts = 0;
  private readonly cleanups: (() => void)[] = [];

  constructor(target: TrialTarget, facts: Facts, driver: DeviceDriver | null) {
    this.target = target;
    this.facts = facts;
    this.driver = driver;
  }

  get timeoutMs(): number {
    return this.target.timeoutMs;
  }

  /** A connection without a VERSION. */
  raw(): RawPeer {
    this.attempts += 1;
    const peer = connectPeer(this.target, this.exchange, this.peers.length + 1);
    this.peers.push(peer);
    return peer;
  }

  /** A connection after its VERSION. */
  ready(): RawPeer {
    return this.agreed(PROPOSAL);
  }

  /** As `ready`, with a proposal of the rule's own. */
  agreed(capabilities: object): RawPeer {
    const peer = this.raw();
    peer.command(VFIO_USER_VERSION, request.proposal(capabilities));
    const reply = peer.reply('VERSION');
    if (reply === null)
      throw new NoServiceOutcome(BROKEN, 'the server ended the connection instead of a reply to VERSION');
    demand(!reply.failed, `VERSION was refused with ${errnoName(reply.errno)}`);
    return peer;
  }

  /**
   * The next client, once the earlier connections of this trial are closed. A server may refuse it as long as it is
   * busy with their end.
   */
  successorOf(capabilities: object): RawPeer {
    this.closePeers();
    const deadline = performance.now() + this.timeoutMs;
    for (;;) {
      const peer = this.raw();
      peer.command(VFIO_USER_VERSION, request.proposal(capabilities));
      const reply = peer.reply('VERSION of the next client');
      if (reply !== null && !reply.failed) return peer;
      peer.close();
      if (performance.now() > deadline) throw new NoServiceOutcome(HANGS, 'the server takes no client after the first');
      pause(RETRY_MS);
    }
  }

  /** Memory as a file; it can still be sealed, which shows whether somebody maps it (`isUnmapped`). */
  memfd(sizeBytes: number): OwnedFd {
    const fd = new OwnedFd(
      check(sys.memfd_create('conform', MFD_CLOEXEC | MFD_ALLOW_SEALING), () => 'memfd_create'),
      'memory of the client',
    );
    this.files.push(fd);
    check(sys.ftruncate(fd.fd, sizeBytes), () => 'ftruncate');
    return fd;
  }

  /** Whether no process can write the memory through a mapping: only then may it be sealed against writing. */
  isUnmapped(memory: OwnedFd): boolean {
    return sys.fcntl(memory.fd, F_ADD_SEALS, F_SEAL_WRITE) >= 0;
  }

  eventfd(): OwnedFd {
    return this.own(createEventfd());
  }

  /** Waits until the eventfd is signalled, and takes its count. */
  demandSignal(fd: OwnedFd, what: string): void {
    demand(pollOne(fd.fd, POLLIN, this.timeoutMs) !== 0, `${what}: the eventfd is not signalled`);
    readEventfd(fd.fd);
  }

  /** Demands that the eventfd stays silent: a signal of what was asked before has come a round trip later. */
  demandNoSignal(peer: RawPeer, fd: OwnedFd, what: string): void {
    this.stillServes(peer);
    demand(pollOne(fd.fd, POLLIN, SILENCE_MS) === 0, `${what}: the eventfd is signalled`);
  }

  own(fd: OwnedFd): OwnedFd {
    this.files.push(fd);
    return fd;
  }

  /** The number of open descriptors of the server's process. Not applicable where they cannot be read. */
  serverFds(peer: RawPeer): number {
    const { pid } = peerCredentials(peer.socket);
    try {
      return readdirSync(`/proc/${pid}/fd`).length;
    } catch {
      return notApplicable("the server's descriptors cannot be counted: it runs as another user, or elsewhere");
    }
  }

  /** Demands that the server comes back to `most` descriptors; some close them a moment after their reply. */
  demandFds(peer: RawPeer, most: number, what: string): void {
    const deadline = performance.now() + this.timeoutMs;
    for (;;) {
      const now = this.serverFds(peer);
      if (now <= most) return;
      demand(performance.now() < deadline, `${what}: the server holds ${now - most} descriptors more than before`);
      pause(RETRY_MS);
    }
  }

  /** Demands that the connection still serves. */
  stillServes(peer: RawPeer): void {
    peer.ok(VFIO_USER_DEVICE_GET_INFO, request.deviceInfo());
  }

  onClose(cleanup: () => void): void {
    this.cleanups.push(cleanup);
  }

  closePeers(): void {
    for (const peer of this.peers) peer.close();
  }

  /** How many connections it has made or tried to make. */
  get connections(): number {
    return this.attempts;
  }

  close(): void {
    this.closePeers();
    for (const cleanup of this.cleanups) cleanup();
    for (const fd of this.files) if (fd.isOpen) fd.close();
  }
}

export function connectPeer(target: TrialTarget, exchange: TrialLog, number: number): RawPeer {
  const deadline = performance.now() + target.timeoutMs;
  for (;;) {
    try {
      const socket = connectUnix(target.socket, target.timeoutMs);
      setSocketTimeout(socket, target.timeoutMs);
      return new RawPeer(socket, exchange, number, target.timeoutMs);
    } catch (error) {
      if (!mayListenLater(error) || performance.now() > deadline) {
        throw new NoServiceOutcome(HANGS, `no connection: ${(error as Error).message}`);
      }
      pause(RETRY_MS);
    }
  }
}
