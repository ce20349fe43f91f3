/**
 * A client that blocks: for command lines, tests and tools. Servers and their clients may be threads of one process.
 */
import { ERRNO, Errno } from '../abi/errno.ts';
import { viewOf } from '../abi/layout.ts';
import {
  VFIO_REGION_INFO_CAP_SPARSE_MMAP,
  VFIO_REGION_INFO_FLAG_CAPS,
  vfio_irq_info,
  vfio_irq_set,
  vfio_pci_dependent_device,
  vfio_pci_hot_reset,
  vfio_pci_hot_reset_info,
  vfio_region_info,
} from '../abi/vfio.ts';
import {
  VFIO_USER_COMMAND_NAMES,
  VFIO_USER_DEVICE_FEATURE,
  VFIO_USER_DEVICE_GET_INFO,
  VFIO_USER_DEVICE_GET_IRQ_INFO,
  VFIO_USER_DEVICE_GET_REGION_INFO,
  VFIO_USER_DEVICE_RESET,
  VFIO_USER_DEVICE_SET_IRQS,
  VFIO_USER_DMA_MAP,
  VFIO_USER_DMA_READ,
  VFIO_USER_DMA_UNMAP,
  VFIO_USER_DMA_WRITE,
  VFIO_USER_F_NO_REPLY,
  VFIO_USER_F_TYPE_COMMAND,
  VFIO_USER_F_TYPE_REPLY,
  VFIO_USER_HEADER_SIZE,
  VFIO_USER_REGION_READ,
  VFIO_USER_REGION_WRITE,
  VFIO_USER_VERSION,
  VFIO_USER_X_GET_PCI_HOT_RESET_INFO,
  VFIO_USER_X_PCI_HOT_RESET,
  vfio_user_device_info,
  vfio_user_dma_map,
  vfio_user_dma_region_access,
  vfio_user_dma_unmap,
  vfio_user_region_access,
} from '../abi/vfio-user.ts';
import type { OwnedFd } from '../linux/fd.ts';
import { Pinned } from '../linux/ffi.ts';
import { Mapping } from '../linux/mapping.ts';
import { Message } from '../linux/message.ts';
import { connectUnix, setSocketTimeout } from '../linux/socket.ts';
import { infoCapabilities } from '../linux/vfio/caps.ts';
import { FrameReader } from './frame-reader.ts';
import { type Capabilities, decodeVersion, encodeVersion } from './version.ts';
import { type Frame, LIMITS, writeHeader } from './wire.ts';

export interface ClientRegionInfo {
  index: number;
  flags: number;
  sizeBytes: number;
  /** What can be mapped, and by which descriptor; null where messages are the only way. */
  map: { fd: OwnedFd; fdOffset: number; areas: { offset: number; sizeBytes: number }[] } | null;
}

/** Memory of the client that devices reach by DMA_READ and DMA_WRITE. */
export interface ClientDmaMemory {
  read(address: number, into: Uint8Array): void;
  write(address: number, from: Uint8Array): void;
}

export interface Answer {
  /** A copy: it stays good. */
  payload: Buffer;
  fds: OwnedFd[];
}

/**
 * One connection to one device. A refusal of the server is thrown as the Errno that it sent. While a call waits for its
 * reply, DMA_READ and DMA_WRITE of the server are answered from `memory`.
 */
export class VfioUserClient {
  readonly path: string;
  readonly capabilities: Capabilities;
  /** Answers the device's DMA to regions that were mapped without a descriptor. */
  memory: ClientDmaMemory | null = null;
  private readonly socket: OwnedFd;
  private readonly frames = new FrameReader();
  private readonly outgoing = new Message(1, LIMITS.maxMsgFds);
  private message = new Pinned(64 * 1024);
  private nextId = 0;

  /**
   * Connects and agrees on a version. ENOENT or ECONNREFUSED where nobody listens, EBUSY while the device has another
   * client, ETIMEDOUT when the server is silent for `timeoutMs`.
   */
  constructor(path: string, timeoutMs = 10_000) {
    this.path = path;
    this.socket = connectUnix(path);
    try {
      setSocketTimeout(this.socket, timeoutMs);
      this.capabilities = decodeVersion(this.call(VFIO_USER_VERSION, encodeVersion()).payload);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  info(): { flags: number; numRegions: number; numIrqs: number } {
    const argsz = vfio_user_device_info.sizeof;
    const { payload } = this.call(VFIO_USER_DEVICE_GET_INFO, vfio_user_device_info.encode({ argsz }));
    const { flags, num_regions, num_irqs } = vfio_user_device_info.read(this.reply(payload, vfio_user_device_info));
    return { flags, numRegions: num_regions, numIrqs: num_irqs };
  }

  /** The caller closes `map.fd`. */
  regionInfo(index: number): ClientRegionInfo {
    let answer = this.askRegion(index, vfio_region_info.sizeof);
    const wanted = vfio_region_info.fields.argsz.get(viewOf(answer.payload));
    if (wanted > vfio_region_info.sizeof && wanted <= LIMITS.maxMessageBytes) {
      for (const fd of answer.fds) fd.close();
      answer = this.askRegion(index, wanted);
    }
    const view = viewOf(answer.payload);
    const { flags, size, offset, cap_offset } = vfio_region_info.read(view);
    const [fd, ...others] = answer.fds;
    for (const other of others) other.close();
    if (fd === undefined) return { index, flags, sizeBytes: size, map: null };
    const areas = (flags & VFIO_REGION_INFO_FLAG_CAPS) === 0 ? null : sparseAreas(view, cap_offset);
    return {
      index,
      flags,
      sizeBytes: size,
      map: { fd, fdOffset: offset, areas: areas ?? [{ offset: 0, sizeBytes: size }] },
    };
  }

  /** Maps a slice of a BAR. EINVAL where the server shares no memory for it. */
  mapRegion(index: number, offset: number, sizeBytes: number): Mapping {
    const { map } = this.regionInfo(index);
    const inside = map?.areas.some(
      (area) => area.offset <= offset && offset + sizeBytes <= area.offset + area.sizeBytes,
    );
    try {
      if (map === null || inside !== true)
        throw new Errno('EINVAL', `region ${index} of ${this.path} cannot be mapped there`);
      const what = `region ${index} of ${this.path}`;
      return Mapping.map({ fd: map.fd.fd, offset: map.fdOffset + offset, sizeBytes, writable: true, what });
    } finally {
      map?.fd.close();
    }
  }

  irqInfo(index: number): { flags: number; count: number } {
    const argsz = vfio_irq_info.sizeof;
    const { payload } = this.call(VFIO_USER_DEVICE_GET_IRQ_INFO, vfio_irq_info.encode({ argsz, index }));
    const { flags, count } = vfio_irq_info.read(this.reply(payload, vfio_irq_info));
    return { flags, count };
  }

  /** SET_IRQS; eventfds travel as descriptors and stay the caller's. */
  setIrqs(
    flags: number,
    index: number,
    start: number,
    count: number,
    data: Uint8Array = NOTHING,
    eventfds: readonly number[] = [],
  ): void {
    const argsz = vfio_irq_set.sizeof + data.length;
    const payload = vfio_irq_set.encode({ argsz, flags, index, start, count }, data.length);
    payload.set(data, vfio_irq_set.sizeof);
    this.call(VFIO_USER_DEVICE_SET_IRQS, payload, eventfds);
  }

  /** Fills `into` from a region, in as many messages as it takes. EIO while memory is off. */
  readRegion(region: number, offset: number, into: Uint8Array): void {
    const head = vfio_user_region_access.sizeof;
    for (let at = 0; at < into.length; ) {
      const count = Math.min(into.length - at, this.capabilities.maxDataXferBytes);
      const request = vfio_user_region_access.encode({ offset: offset + at, region, count });
      const { payload } = this.call(VFIO_USER_REGION_READ, request);
      const length = vfio_user_region_access.fields.count.get(this.reply(payload, vfio_user_region_access));
      if (length === 0 || length > count || payload.length !== head + length) {
        throw new Errno('EPROTO', `REGION_READ of ${count} bytes answered with ${length}`);
      }
      into.set(payload.subarray(head), at);
      at += length;
    }
  }

  /** Writes to a region; a posted write does not wait, and nobody hears of its failure. */
  writeRegion(region: number, offset: number, from: Uint8Array, posted = false): void {
    for (let at = 0; at < from.length; ) {
      const part = from.subarray(at, at + this.capabilities.maxDataXferBytes);
      const payload = vfio_user_region_access.encode({ offset: offset + at, region, count: part.length }, part.length);
      payload.set(part, vfio_user_region_access.sizeof);
      if (posted) this.send(VFIO_USER_REGION_WRITE, payload, [], VFIO_USER_F_TYPE_COMMAND | VFIO_USER_F_NO_REPLY);
      else this.call(VFIO_USER_REGION_WRITE, payload);
      at += part.length;
    }
  }

  /** DMA_MAP: memory of a file or a lent dma-buf by its descriptor, which stays the caller's; without one, `memory`. */
  dmaMap(iova: number, sizeBytes: number, flags: number, fd: number | null = null, offset = 0): void {
    const argsz = vfio_user_dma_map.sizeof;
    const payload = vfio_user_dma_map.encode({ argsz, flags, offset, addr: iova, size: sizeBytes });
    this.call(VFIO_USER_DMA_MAP, payload, fd === null ? [] : [fd]);
  }

  /** DMA_UNMAP; returns the bytes that were unmapped. */
  dmaUnmap(iova: number, sizeBytes: number, flags = 0): number {
    const payload = vfio_user_dma_unmap.encode({
      argsz: vfio_user_dma_unmap.sizeof,
      flags,
      addr: iova,
      size: sizeBytes,
    });
    const answer = this.call(VFIO_USER_DMA_UNMAP, payload);
    return vfio_user_dma_unmap.fields.size.get(this.reply(answer.payload, vfio_user_dma_unmap));
  }

  /** DEVICE_FEATURE on an argument that starts with its header (struct vfio_device_feature). */
  feature(argument: Uint8Array, fds: readonly number[] = []): Answer {
    return this.call(VFIO_USER_DEVICE_FEATURE, argument, fds);
  }

  reset(): void {
    this.call(VFIO_USER_DEVICE_RESET, NOTHING);
  }

  /** VFIO_DEVICE_GET_PCI_HOT_RESET_INFO (an extension): what a hot reset would hit. */
  hotResetInfo(): { groupId: number; segment: number; bus: number; devfn: number }[] {
    const request = vfio_pci_hot_reset_info.encode({ argsz: vfio_pci_hot_reset_info.sizeof });
    const { payload } = this.call(VFIO_USER_X_GET_PCI_HOT_RESET_INFO, request);
    const view = this.reply(payload, vfio_pci_hot_reset_info);
    const { count } = vfio_pci_hot_reset_info.read(view);
    if (payload.length !== vfio_pci_hot_reset_info.sizeof + count * vfio_pci_dependent_device.sizeof) {
      throw new Errno('EPROTO', `hot-reset info: ${count} devices in ${payload.length} bytes`);
    }
    return Array.from({ length: count }, (_, i) => {
      const at = vfio_pci_hot_reset_info.sizeof + i * vfio_pci_dependent_device.sizeof;
      const { group_id, segment, bus, devfn } = vfio_pci_dependent_device.read(view, at);
      return { groupId: group_id, segment, bus, devfn };
    });
  }

  /** VFIO_DEVICE_PCI_HOT_RESET (an extension): this process must have every other device of the set that is in use. */
  hotReset(): void {
    this.call(VFIO_USER_X_PCI_HOT_RESET, vfio_pci_hot_reset.encode({ argsz: vfio_pci_hot_reset.sizeof }));
  }

  /** Sends a command and waits for its reply. Throws the errno that the server sent, or why there is no reply. */
  call(command: number, payload: Uint8Array, fds: readonly number[] = []): Answer {
    const id = this.send(command, payload, fds, VFIO_USER_F_TYPE_COMMAND);
    for (;;) {
      const frame = this.nextFrame();
      if (!frame.isReply) {
        this.answer(frame);
        continue;
      }
      if (frame.id !== id || frame.command !== command) {
        for (const fd of frame.fds) fd.close();
        throw new Errno('EPROTO', `a reply to message ${frame.id} (command ${frame.command}), waiting for ${id}`);
      }
      if (frame.error !== 0) {
        for (const fd of frame.fds) fd.close();
        throw Errno.fromCode(
          frame.error,
          `${VFIO_USER_COMMAND_NAMES.get(command) ?? `command ${command}`}, ${this.path}`,
        );
      }
      return { payload: Buffer.from(frame.payload), fds: frame.fds };
    }
  }

  close(): void {
    this.frames.close();
    this.socket.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  private askRegion(index: number, argsz: number): Answer {
    const answer = this.call(VFIO_USER_DEVICE_GET_REGION_INFO, vfio_region_info.encode({ argsz, index }));
    this.reply(answer.payload, vfio_region_info);
    return answer;
  }

  private reply(payload: Buffer, struct: { name: string; sizeof: number }): DataView {
    if (payload.length < struct.sizeof) {
      throw new Errno('EPROTO', `a reply of ${payload.length} bytes is shorter than ${struct.name}`);
    }
    return viewOf(payload);
  }

  private send(
    command: number,
    payload: Uint8Array,
    fds: readonly number[],
    flags: number,
    id = this.takeId(),
  ): number {
    const length = VFIO_USER_HEADER_SIZE + payload.length;
    if (length > this.message.bytes.length) this.message = new Pinned(length);
    writeHeader(this.message.view, id, command, payload.length, flags);
    this.message.bytes.set(payload, VFIO_USER_HEADER_SIZE);
    for (let at = 0; at < length; ) {
      this.outgoing.setIov(0, this.message.address + at, length - at);
      const sent = this.outgoing.sendmsg(this.socket.fd, 0, at === 0 ? fds : []);
      if (sent < 0) throw lost(sent, this.path);
      at += sent;
    }
    return id;
  }

  private takeId(): number {
    this.nextId = (this.nextId + 1) & 0xffff;
    return this.nextId;
  }

  private nextFrame(): Frame {
    for (let frame = this.frames.next(); ; frame = this.frames.next()) {
      if (frame !== null) return frame;
      const received = this.frames.receive(this.socket.fd, true);
      if (received <= 0) throw lost(received, this.path);
    }
  }

  /** DMA_READ and DMA_WRITE of the server. EFAULT where nothing was mapped for messages. */
  private answer(frame: Frame): void {
    for (const fd of frame.fds) fd.close();
    const head = vfio_user_dma_region_access.sizeof;
    const isRead = frame.command === VFIO_USER_DMA_READ;
    let reply = Buffer.from(frame.payload.subarray(0, head));
    try {
      if (!isRead && frame.command !== VFIO_USER_DMA_WRITE) throw new Errno('ENOSYS', `command ${frame.command}`);
      if (this.memory === null || frame.payload.length < head)
        throw new Errno('EFAULT', 'no memory is shared by messages');
      const { addr, count } = vfio_user_dma_region_access.read(viewOf(frame.payload));
      if (isRead) {
        reply = Buffer.concat([reply, Buffer.alloc(Math.min(count, LIMITS.maxDataXferBytes))]);
        this.memory.read(addr, reply.subarray(head));
      } else this.memory.write(addr, frame.payload.subarray(head));
    } catch (error) {
      const code = error instanceof Errno ? error.code : ERRNO.EIO;
      this.sendError(frame, code);
      return;
    }
    this.send(frame.command, reply, [], VFIO_USER_F_TYPE_REPLY, frame.id);
  }

  private sendError(frame: Frame, code: number): void {
    writeHeader(this.message.view, frame.id, frame.command, 0, VFIO_USER_F_TYPE_REPLY, code);
    this.outgoing.setIov(0, this.message.address, VFIO_USER_HEADER_SIZE);
    const sent = this.outgoing.sendmsg(this.socket.fd);
    if (sent < 0) throw lost(sent, this.path);
  }
}

const NOTHING = new Uint8Array(0);

function lost(result: number, path: string): Errno {
  if (result === 0) return new Errno('ECONNRESET', `${path}: the server closed the connection`);
  if (result === -ERRNO.EAGAIN) return new Errno('ETIMEDOUT', `${path}: the server is silent`);
  return Errno.fromCode(-result, path);
}

function sparseAreas(view: DataView, capOffset: number): { offset: number; sizeBytes: number }[] | null {
  for (const capability of infoCapabilities(view, capOffset, view.byteLength)) {
    if (capability.id !== VFIO_REGION_INFO_CAP_SPARSE_MMAP) continue;
    const count = view.getUint32(capability.offset + 8, true);
    return Array.from({ length: count }, (_, i) => ({
      offset: Number(view.getBigUint64(capability.offset + 16 + 16 * i, true)),
      sizeBytes: Number(view.getBigUint64(capability.offset + 24 + 16 * i, true)),
    }));
  }
  return null;
}
