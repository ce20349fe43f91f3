/**
 * The buffers that clients hold. Each is a socket pair: the client has one end, the server the other. When the last
 * copy of the client's end is closed, in any process, the server reads the end of stream and closes the buffer's
 * descriptor. A process with a copy may send OPEN through it with a socket of its own, and becomes an importer
 * (docs/dma-buf-socket.md). The server never answers on the socket that all copies share.
 */
import { fstatSync } from 'node:fs';
import { DMA_BUF_SOCKET_MAJOR } from '../../abi/dma-buf-socket.ts';
import { ERRNO, Errno } from '../../abi/errno.ts';
import { EPOLLIN, EPOLLRDHUP } from '../../abi/poll.ts';
import { MSG_DONTWAIT, MSG_NOSIGNAL, SOCK_SEQPACKET } from '../../abi/socket.ts';
import { VFIO_USER_F_TYPE_REPLY, VFIO_USER_HEADER_SIZE } from '../../abi/vfio-user.ts';
import type { DmaBuf } from '../../dma-buf/dma-buf.ts';
import { FdTable } from '../../dma-buf/file.ts';
import type { OwnedFd } from '../../linux/fd.ts';
import { Pinned, sys } from '../../linux/ffi.ts';
import { hangUp } from '../../linux/foreign-fd.ts';
import { Message } from '../../linux/message.ts';
import { openFilesLimit } from '../../linux/process.ts';
import type { MappingBudget } from '../../linux/shared-files.ts';
import { isUnixPacketSocket, peerCredentials, socketPair } from '../../linux/socket.ts';
import { runner } from '../../task/runner.ts';
import type { VfioPciCoreDevice } from '../../vfio/core.ts';
import { beyondLimit, limitHit } from '../../vfio/limit-hits.ts';
import type { LentBuffers } from '../server/dma-regions.ts';
import { type EventLoop, hungUp } from '../wire/event-loop.ts';
import { frameBytes, LIMITS, ReceivedFrame, writeHeader } from '../wire/frame.ts';
import { takeFds } from '../wire/frame-reader.ts';
import type { LimitUse } from '../wire/limit-use.ts';
import type { Log } from '../wire/log.ts';
import { NO_BYTES, type Taps } from '../wire/tap.ts';
import { BorrowedBuffer } from './borrowed-buffer.ts';
import { ExporterConnection, type ImporterHost } from './exporter-connection.ts';
import { FenceWaits } from './fence-waits.ts';
import { IMPORTER_LIMITS, IMPORTER_TIMEOUT_MS } from './limits.ts';
import { decode, OPEN } from './messages.ts';
import { SharedBars } from './shared-bars.ts';

/**
 * The descriptors of one client. They outlive its connection: a process with a copy of a descriptor keeps the buffer.
 */
export class ClientFiles extends FdTable {
  constructor() {
    super(LIMITS.maxExports);
  }
}

interface Export {
  readonly vdev: VfioPciCoreDevice;
  readonly ranges: number;
  readonly ours: OwnedFd;
  readonly files: FdTable;
  readonly fd: number;
  readonly dmabuf: DmaBuf;
  key: number;
}

/** Room for OPEN and one byte more, so that a longer packet shows. */
const OPEN_BYTES = VFIO_USER_HEADER_SIZE + OPEN.request.sizeof;

export class Exports implements ImporterHost, LentBuffers {
  readonly loop: EventLoop;
  readonly timeoutMs: number;
  readonly log: Log;
  readonly taps: Taps | null;
  readonly bars: SharedBars;
  /** Keyed by the inode of the client's end. All copies share that inode, and nothing else has it while one is open. */
  private readonly byInode = new Map<number, Export>();
  /** The buffers and ranges that clients hold, by device. */
  private readonly held = new Map<VfioPciCoreDevice, { exports: number; ranges: number }>();
  /** The limit for all buffers. Each takes one descriptor; clients and importers need the others. */
  private readonly mostExports = Math.min(LIMITS.maxExportsOfAll, Math.floor(openFilesLimit().soft / 4));
  private readonly importers = new Set<ExporterConnection>();
  private readonly waits = new WeakMap<DmaBuf, FenceWaits>();
  private readonly incoming = new Message(1, 1);
  private readonly packet = new Pinned(OPEN_BYTES + 1);
  private readonly refusal = new Pinned(VFIO_USER_HEADER_SIZE);

  constructor(loop: EventLoop, log: Log, timeoutMs = IMPORTER_TIMEOUT_MS, taps: Taps | null = null) {
    this.loop = loop;
    this.log = log;
    this.taps = taps;
    this.timeoutMs = timeoutMs;
    this.bars = new SharedBars(log);
    this.incoming.setIov(0, this.packet.address, this.packet.bytes.length);
  }

  get size(): number {
    return this.byInode.size;
  }

  /** The most buffers of one device: all devices that may lend have the same share. */
  private get mostOfDevice(): number {
    return Math.min(LIMITS.maxExports, Math.floor(this.mostExports / this.held.size));
  }

  usage(): LimitUse[] {
    const ofDevices = [...this.held].flatMap(([{ pdev }, { exports, ranges }]) => [
      { limit: 'maxExports', of: pdev.name, used: exports, most: this.mostOfDevice },
      { limit: 'maxExportRanges', of: pdev.name, used: ranges, most: LIMITS.maxExportRanges },
    ]);
    const of = 'all devices';
    return [
      ...ofDevices,
      { limit: 'maxExportsOfAll', of, used: this.byInode.size, most: this.mostExports },
      { limit: 'maxSessionsOfAll', of, used: this.importers.size, most: IMPORTER_LIMITS.maxSessionsOfAll },
      ...[...this.importers].flatMap((importer) => importer.usage()),
    ];
  }

  lenderOf(dmabuf: DmaBuf): string {
    const lent = [...this.byInode.values()].find((each) => each.dmabuf === dmabuf);
    return lent?.vdev.pdev.name ?? dmabuf.expName;
  }

  /** Counts one more device that may lend. */
  addDevice(vdev: VfioPciCoreDevice): void {
    this.held.set(vdev, { exports: 0, ranges: 0 });
  }

  /** EMFILE when too many buffers of the device, or of all, are held; ENOMEM when their ranges are too many. */
  checkRoom(vdev: VfioPciCoreDevice, ranges: number): void {
    const own = this.held.get(vdev)!;
    const isFull = own.exports >= this.mostOfDevice;
    if (isFull || this.byInode.size >= this.mostExports) {
      const limit = isFull ? 'maxExports' : 'maxExportsOfAll';
      const reason = `${own.exports} dma-bufs of ${vdev.pdev.name} are held, ${this.byInode.size} of all`;
      throw beyondLimit(limit, 'EMFILE', reason);
    }
    const all = [...this.held.values()].reduce((sum, each) => sum + each.ranges, 0);
    if (own.ranges + ranges > LIMITS.maxExportRanges || all + ranges > LIMITS.maxExportRangesOfAll) {
      const limit = own.ranges + ranges > LIMITS.maxExportRanges ? 'maxExportRanges' : 'maxExportRangesOfAll';
      const reason = `dma-bufs of ${vdev.pdev.name} have ${own.ranges} ranges, those of all have ${all}`;
      throw beyondLimit(limit, 'ENOMEM', reason);
    }
  }

  /**
   * Returns the client's descriptor for descriptor `fd` of its table, a buffer of `vdev` with `ranges` ranges. The
   * caller sends and closes it.
   */
  publish(files: FdTable, fd: number, vdev: VfioPciCoreDevice, ranges: number): OwnedFd {
    const dmabuf = files.lookup(fd) as DmaBuf;
    const [ours, theirs] = socketPair('dma-buf of a client', SOCK_SEQPACKET);
    try {
      const entry: Export = { vdev, ranges, ours, files, fd, dmabuf, key: 0 };
      const inode = fstatSync(theirs.fd).ino;
      entry.key = this.loop.addPatient(ours.fd, EPOLLIN | EPOLLRDHUP, (events) => this.onReady(inode, entry, events));
      this.byInode.set(inode, entry);
      this.count(entry, 1);
      return theirs;
    } catch (error) {
      ours.close();
      theirs.close();
      throw error;
    }
  }

  /** Returns the buffer of a descriptor; null for every other kind of descriptor. */
  find(fd: OwnedFd): DmaBuf | null {
    if (!isUnixPacketSocket(fd.fd)) return null;
    return this.byInode.get(fstatSync(fd.fd).ino)?.dmabuf ?? null;
  }

  /** Borrows a buffer of another process for a client of this server; `onLost` as in BorrowedBuffer. */
  borrow(fd: OwnedFd, budget: MappingBudget, onLost: () => void): BorrowedBuffer {
    return new BorrowedBuffer(this.loop, fd, budget, onLost);
  }

  /** Ends all exports with the server: every buffer loses its importers and its last descriptor. */
  closeAll(): void {
    for (const importer of this.importers) importer.endWithServer();
    for (const [inode, entry] of this.byInode) this.drop(inode, entry);
  }

  waitsOf(dmabuf: DmaBuf): FenceWaits {
    let waits = this.waits.get(dmabuf);
    if (waits === undefined) {
      waits = new FenceWaits(this.loop, dmabuf);
      this.waits.set(dmabuf, waits);
    }
    return waits;
  }

  onEnd(importer: ExporterConnection): void {
    this.importers.delete(importer);
  }

  private onReady(inode: number, entry: Export, events: number): void {
    const received = this.incoming.recvmsg(entry.ours.fd, MSG_DONTWAIT);
    if (received > 0) this.onPacket(entry, received);
    else if (hungUp(events)) this.drop(inode, entry);
    // A holder shut down the way to the server, for every copy. Only the end can come now.
    else if ((events & EPOLLRDHUP) !== 0) this.loop.modify(entry.key, 0);
  }

  /** Drops any packet other than OPEN and closes the descriptors that came with it. */
  private onPacket({ dmabuf }: Export, received: number): void {
    let fds: OwnedFd[] = [];
    try {
      if (this.incoming.hasFds) fds = takeFds(this.incoming);
      if (received !== OPEN_BYTES || frameBytes(this.packet.view, 0) !== received || fds.length !== 1) return;
      const frame = new ReceivedFrame(this.packet, 0, received, fds);
      if (frame.command !== OPEN.command || frame.isReply) return;
      // A buffer that held its own descriptor would never be released.
      if (!isUnixPacketSocket(fds[0].fd) || this.find(fds[0]) !== null) return;
      this.open(dmabuf, frame);
    } catch (error) {
      if (!(error instanceof Errno)) throw error;
    } finally {
      for (const fd of fds) fd.close();
    }
  }

  private open(dmabuf: DmaBuf, frame: ReceivedFrame): void {
    const { payload, fds } = frame;
    const { major, flags } = decode(OPEN.request, payload, 'EINVAL');
    const sessions = [...this.importers].filter((importer) => importer.dmabuf === dmabuf).length;
    const isFull = sessions >= IMPORTER_LIMITS.maxSessions || this.importers.size >= IMPORTER_LIMITS.maxSessionsOfAll;
    const error = major !== DMA_BUF_SOCKET_MAJOR || flags !== 0 ? 'EINVAL' : isFull ? 'EMFILE' : null;
    if (error !== null) {
      if (error === 'EMFILE') limitHit(sessions >= IMPORTER_LIMITS.maxSessions ? 'maxSessions' : 'maxSessionsOfAll');
      this.refuse(dmabuf, frame, ERRNO[error]);
      return;
    }
    let importer: ExporterConnection;
    let socket: OwnedFd | null = null;
    try {
      socket = fds[0].duplicate();
      importer = new ExporterConnection(this, dmabuf, socket);
    } catch (failure) {
      // The process has no descriptor left, or the loop has no room.
      socket?.close();
      if (failure instanceof Errno) this.refuse(dmabuf, frame, -failure.errno);
      else throw failure;
      return;
    }
    // A session holds the buffer, as a descriptor does.
    runner.run(dmabuf.get());
    this.importers.add(importer);
    importer.answerOpen(frame);
  }

  private refuse(dmabuf: DmaBuf, open: ReceivedFrame, error: number): void {
    const [socket] = open.fds;
    writeHeader(this.refusal.view, open.id, OPEN.command, 0, VFIO_USER_F_TYPE_REPLY, error);
    sys.send(socket.fd, this.refusal.address, VFIO_USER_HEADER_SIZE, MSG_DONTWAIT | MSG_NOSIGNAL);
    this.tapRefusal(dmabuf, open);
    hangUp(socket);
  }

  private tapRefusal(dmabuf: DmaBuf, open: ReceivedFrame): void {
    const { taps } = this;
    if (taps === null) return;
    const tap = taps.of('dma-buf', this.lenderOf(dmabuf), taps.nextConnection(), peerCredentials(open.fds[0]).pid);
    tap(false, open.whole, open.fdNumbers);
    tap(true, this.refusal.bytes.subarray(0, VFIO_USER_HEADER_SIZE));
    tap(false, NO_BYTES);
  }

  private count({ vdev, ranges }: Export, sign: 1 | -1): void {
    const held = this.held.get(vdev)!;
    held.exports += sign;
    held.ranges += sign * ranges;
  }

  private drop(inode: number, entry: Export): void {
    this.byInode.delete(inode);
    this.count(entry, -1);
    this.loop.remove(entry.key);
    hangUp(entry.ours);
    runner.start('close dma-buf', entry.files.close(entry.fd));
  }
}
