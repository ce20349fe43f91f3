/** The server's eventfds for places of a region. A write there needs no message. */
import { Errno } from '../../abi/errno.ts';
import { POLLOUT } from '../../abi/poll.ts';
import {
  KVM_IOEVENTFD_FLAG_DATAMATCH,
  VFIO_USER_DEVICE_GET_REGION_IO_FDS,
  VFIO_USER_IO_FD_TYPE_IOEVENTFD,
  vfio_user_region_io_fds,
  vfio_user_sub_region_ioeventfd,
} from '../../abi/vfio-user.ts';
import { signalEventfd } from '../../linux/eventfd.ts';
import { closeAll, type OwnedFd } from '../../linux/fd.ts';
import { isEventfd } from '../../linux/foreign-fd.ts';
import { PollSet } from '../../linux/poll.ts';
import { LIMITS } from '../wire/frame.ts';
import { type Answer, askWithRoom, type Exchange, type Request, replyOf } from './exchange.ts';
import { regionInfo } from './region-info.ts';

const HEAD = vfio_user_region_io_fds.sizeof;

/** struct vfio_user_sub_region_ioeventfd; `sizeBytes` 0 stands for writes of any size. */
export interface SubRegion {
  /** Where it is in the region, in bytes. */
  offset: number;
  /** The size of the writes; 0 for any size. */
  sizeBytes: number;
  /** Which descriptor of the reply rings. */
  fdIndex: number;
  /** VFIO_USER_IO_FD_TYPE_*. */
  type: number;
  /** Says whether `datamatch` counts. */
  flags: number;
  /** The value that rings, if the flags say so. */
  datamatch: bigint;
}

/** DEVICE_GET_REGION_IO_FDS: gets the eventfds for places of a region. EPROTO for places outside the region. */
export function* regionIoFds(index: number): Exchange<RegionIoFds> {
  const { map, sizeBytes } = yield* regionInfo(index);
  map?.fd.close();
  const request = (argsz: number): Request => {
    const payload = vfio_user_region_io_fds.encode({ argsz, index });
    return { command: VFIO_USER_DEVICE_GET_REGION_IO_FDS, payload, takesFds: true };
  };
  const wanted = (payload: Buffer): number => {
    const argsz = vfio_user_region_io_fds.fields.argsz.get(replyOf(payload, vfio_user_region_io_fds));
    // RegionIoFds refuses places that the first reply does not have.
    return argsz <= LIMITS.maxMessageBytes ? argsz : 0;
  };
  return yield* askWithRoom(request, HEAD, wanted, (answer) => new RegionIoFds(answer, sizeBytes));
}

export class RegionIoFds {
  readonly places: readonly SubRegion[];
  private readonly fds: readonly OwnedFd[];
  private readonly room = new PollSet(1);

  /** Takes the descriptors over unless it throws. EPROTO for places outside the region, or without an eventfd. */
  constructor({ payload, fds }: Answer, regionBytes: number) {
    this.fds = fds;
    const view = replyOf(payload, vfio_user_region_io_fds);
    const { argsz, count } = vfio_user_region_io_fds.read(view);
    // Compute the size of an entry from the whole; the entry's own size field is not reliable.
    const entryBytes = count === 0 ? 0 : (argsz - HEAD) / count;
    const isOdd = count > 0 && (entryBytes < vfio_user_sub_region_ioeventfd.sizeof || entryBytes % 8 !== 0);
    if (isOdd || payload.length < HEAD + count * entryBytes) {
      throw new Errno('EPROTO', `GET_REGION_IO_FDS: ${count} places in ${payload.length} bytes, argsz ${argsz}`);
    }
    this.places = Array.from({ length: count }, (_, i) => this.place(view, HEAD + i * entryBytes, regionBytes));
  }

  /** Signals instead of writing, where an eventfd stands for the place; false for all other places. */
  ring(offset: number, bytes: Uint8Array): boolean {
    const place = this.places.find((each) => stands(each, offset, bytes));
    if (place === undefined) return false;
    const { fd } = this.fds[place.fdIndex];
    // The server may have filled the counter and made the file blocking: a full counter rings already.
    this.room.set(0, fd, POLLOUT);
    if (this.room.wait(0) === 1) signalEventfd(fd);
    return true;
  }

  close(): void {
    closeAll(this.fds);
  }

  private place(view: DataView, at: number, regionBytes: number): SubRegion {
    const { offset, size, fd_index, type, flags } = vfio_user_sub_region_ioeventfd.read(view, at);
    if (size > regionBytes - offset || fd_index >= this.fds.length) {
      const where = `${size} bytes at ${offset} of ${regionBytes}, descriptor ${fd_index} of ${this.fds.length}`;
      throw new Errno('EPROTO', `GET_REGION_IO_FDS: ${where}`);
    }
    if (type === VFIO_USER_IO_FD_TYPE_IOEVENTFD && !isEventfd(this.fds[fd_index].fd)) {
      throw new Errno('EPROTO', `GET_REGION_IO_FDS: descriptor ${fd_index} is not an eventfd`);
    }
    const datamatch = vfio_user_sub_region_ioeventfd.fields.datamatch.getBig(view, at);
    return { offset, sizeBytes: size, fdIndex: fd_index, type, flags, datamatch };
  }
}

function stands(place: SubRegion, offset: number, bytes: Uint8Array): boolean {
  if (place.type !== VFIO_USER_IO_FD_TYPE_IOEVENTFD || place.offset !== offset) return false;
  if (place.sizeBytes !== 0 && place.sizeBytes !== bytes.length) return false;
  if ((place.flags & KVM_IOEVENTFD_FLAG_DATAMATCH) === 0) return true;
  let value = 0n;
  for (const byte of [...bytes].reverse()) value = (value << 8n) | BigInt(byte);
  return value === place.datamatch;
}
