/**
 * Buffers that clients hold: each is a socket whose other end is here. When the last copy of the client's end is
 * closed, in whatever process, ours reads the end of it, and the buffer's descriptor is closed. Whoever has a copy may
 * send OPEN through it with a socket of its own, and is an importer from then on (docs/dma-buf-socket.md): nothing is
 * ever answered on the socket that all copies share.
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
import { isUnixPacketSocket, socketPair } from '../../linux/socket.ts';
import { runner } from '../../task/runner.ts';
import type { VfioPciCoreDevice } from '../../vfio/core.ts';
import type { LentBuffers } from '../server/dma-regions.ts';
import { type EventLoop, hungUp } from '../wire/event-loop.ts';
import { frameBytes, LIMITS, ReceivedFrame, writeHeader } from '../wire/frame.ts';
import { takeFds } from '../wire/frame-reader.ts';
import type { Log } from '../wire/log.ts';
import { BorrowedBuffer } from './borrowed-buffer.ts';
import { ExporterConnection, type ImporterHost } from './exporter-connection.ts';
import { FenceWaits } from './fence-waits.ts';
import { IMPORTER_LIMITS, IMPORTER_TIMEOUT_MS } from './limits.ts';
import { decode, OPEN } from './messages.ts';
import { SharedBars } from './shared-bars.ts';

/** The descriptors of one client. They outlive its connection: whoever got a copy of one keeps the buffer. */
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

/** OPEN, and one byte more, so that a longer packet shows. */
const OPEN_BYTES = VFIO_USER_HEADER_SIZE + OPEN.request.sizeof;

export class Exports implements ImporterHost, LentBuffers {
  readonly loop: EventLoop;
  readonly timeoutMs: number;
  readonly log: Log;
  readonly bars: SharedBars;
  /** By the inode of the client's end, which is that of every copy of it, and of nothing else while one is open. */
  private readonly byInode = new Map<number, Export>();
  /** What is held of each device. */
  private readonly held = new Map<VfioPciCoreDevice, { exports: number; ranges: number }>();
  /** Each buffer takes a descriptor; the others are for clients and importers. */
  private readonly mostExports = Math.min(LIMITS.maxExportsOfAll, Math.floor(openFilesLimit().soft / 4));
  private readonly importers = new Set<ExporterConnection>();
  private readonly waits = new WeakMap<DmaBuf, FenceWaits>();
  private readonly incoming = new Message(1, 1);
  private readonly packet = new Pinned(OPEN_BYTES + 1);
  private readonly refusal = new Pinned(VFIO_USER_HEADER_SIZE);

  constructor(loop: EventLoop, log: Log, timeoutMs = IMPORTER_TIMEOUT_MS) {
    this.loop = loop;
    this.log = log;
    this.timeoutMs = timeoutMs;
    this.bars = new SharedBars(log);
    this.incoming.setIov(0, this.packet.address, this.packet.bytes.length);
  }

  get size(): number {
    return this.byInode.size;
  }

  /** One more device may lend. */
  addDevice(vdev: VfioPciCoreDevice): void {
    this.held.set(vdev, { exports: 0, ranges: 0 });
  }

  /** EMFILE where so many buffers of a device, or of all, are held; ENOMEM where they have so many ranges. */
  checkRoom(vdev: VfioPciCoreDevice, ranges: number): void {
    const own = this.held.get(vdev)!;
    const most = Math.min(LIMITS.maxExports, Math.floor(this.mostExports / this.held.size));
    if (own.exports >= most || this.byInode.size >= this.mostExports) {
      throw new Errno('EMFILE', `${own.exports} dma-bufs of ${vdev.pdev.name} are held, ${this.byInode.size} of all`);
    }
    const all = [...this.held.values()].reduce((sum, each) => sum + each.ranges, 0);
    if (own.ranges + ranges > LIMITS.maxExportRanges || all + ranges > LIMITS.maxExportRangesOfAll) {
      throw new Errno('ENOMEM', `dma-bufs of ${vdev.pdev.name} have ${own.ranges} ranges, those of all have ${all}`);
    }
  }

  /**
   * The descriptor for the client that stands for descriptor `fd` of its table, a buffer of `vdev` with `ranges` ranges.
   * The caller sends and closes it.
   */
  publish(files: FdTable, fd: number, vdev: VfioPciCoreDevice, ranges: number): OwnedFd {
    const dmabuf = files.lookup(fd) as DmaBuf;
    const [ours, theirs] = socketPair('dma-buf of a client', SOCK_SEQPACKET);
    try {
      const entry: Export = { vdev, ranges, ours, files, fd, dmabuf, key: 0 };
      const inode = fstatSync(theirs.fd).ino;
      entry.key = this.loop.add(ours.fd, EPOLLIN | EPOLLRDHUP, (events) => this.onReady(inode, entry, events));
      this.byInode.set(inode, entry);
      this.count(entry, 1);
      return theirs;
    } catch (error) {
      ours.close();
      theirs.close();
      throw error;
    }
  }

  /** The buffer that a descriptor stands for; null for every other kind of descriptor. */
  find(fd: OwnedFd): DmaBuf | null {
    if (!isUnixPacketSocket(fd.fd)) return null;
    return this.byInode.get(fstatSync(fd.fd).ino)?.dmabuf ?? null;
  }

  /** A buffer that another process lends, for a client here; `onLost` as in BorrowedBuffer. */
  borrow(fd: OwnedFd, budget: MappingBudget, onLost: () => void): BorrowedBuffer {
    return new BorrowedBuffer(this.loop, fd, budget, onLost);
  }

  /** The server ends: every buffer loses its importers and its last descriptor. */
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
    // A holder shut the way to us down, for every copy: nothing comes any more but the end.
    else if ((events & EPOLLRDHUP) !== 0) this.loop.modify(entry.key, 0);
  }

  /** A packet that is no OPEN is nobody's loss: it is dropped, and its descriptors with it. */
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

  private open(dmabuf: DmaBuf, { id, payload, fds }: ReceivedFrame): void {
    const { major, flags } = decode(OPEN.request, payload, 'EINVAL');
    const sessions = [...this.importers].filter((importer) => importer.dmabuf === dmabuf).length;
    const isFull = sessions >= IMPORTER_LIMITS.maxSessions || this.importers.size >= IMPORTER_LIMITS.maxSessionsOfAll;
    const error = major !== DMA_BUF_SOCKET_MAJOR || flags !== 0 ? 'EINVAL' : isFull ? 'EMFILE' : null;
    if (error !== null) {
      this.refuse(fds[0], id, ERRNO[error]);
      return;
    }
    let importer: ExporterConnection;
    let socket: OwnedFd | null = null;
    try {
      socket = fds[0].duplicate();
      importer = new ExporterConnection(this, dmabuf, socket);
    } catch (failure) {
      // No descriptor, or no place in the loop, is left.
      socket?.close();
      if (failure instanceof Errno) this.refuse(fds[0], id, -failure.errno);
      else throw failure;
      return;
    }
    // A session is as good as a descriptor: it holds the buffer.
    runner.run(dmabuf.get());
    this.importers.add(importer);
    importer.answerOpen(id);
  }

  private refuse(socket: OwnedFd, id: number, error: number): void {
    writeHeader(this.refusal.view, id, OPEN.command, 0, VFIO_USER_F_TYPE_REPLY, error);
    sys.send(socket.fd, this.refusal.address, VFIO_USER_HEADER_SIZE, MSG_DONTWAIT | MSG_NOSIGNAL);
    hangUp(socket);
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
