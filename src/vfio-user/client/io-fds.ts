/** The server's eventfds for places of a region. A write there needs no message. */
import { Errno } from '../../abi/errno.ts';
import { viewOf } from '../../abi/layout.ts';
import {
  KVM_IOEVENTFD_FLAG_DATAMATCH,
  VFIO_USER_IO_FD_TYPE_IOEVENTFD,
  vfio_user_region_io_fds,
  vfio_user_sub_region_ioeventfd,
} from '../../abi/vfio-user.ts';
import { signalEventfd } from '../../linux/eventfd.ts';
import type { OwnedFd } from '../../linux/fd.ts';
import type { Answer } from './channel.ts';

/** struct vfio_user_sub_region_ioeventfd; `sizeBytes` 0 stands for writes of any size. */
export interface SubRegion {
  offset: number;
  sizeBytes: number;
  fdIndex: number;
  type: number;
  flags: number;
  datamatch: bigint;
}

export class RegionIoFds {
  readonly places: readonly SubRegion[];
  private readonly fds: readonly OwnedFd[];

  /** Takes the descriptors over, also when it throws. EPROTO for places outside the region, or without a descriptor. */
  constructor({ payload, fds }: Answer, regionBytes: number) {
    this.fds = fds;
    try {
      const view = viewOf(payload);
      const { argsz, count } = vfio_user_region_io_fds.read(view);
      const head = vfio_user_region_io_fds.sizeof;
      // Compute the size of an entry from the whole; the entry's own size field is not reliable.
      const entryBytes = count === 0 ? 0 : (argsz - head) / count;
      if (payload.length < head + count * entryBytes || entryBytes % 8 !== 0 || (count > 0 && entryBytes < 40)) {
        throw new Errno('EPROTO', `GET_REGION_IO_FDS: ${count} places in ${payload.length} bytes, argsz ${argsz}`);
      }
      this.places = Array.from({ length: count }, (_, i) => this.place(view, head + i * entryBytes, regionBytes));
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Signals instead of writing, where an eventfd stands for the place; false for all other places. */
  ring(offset: number, bytes: Uint8Array): boolean {
    const place = this.places.find((each) => stands(each, offset, bytes));
    if (place === undefined) return false;
    signalEventfd(this.fds[place.fdIndex].fd);
    return true;
  }

  close(): void {
    for (const fd of this.fds) fd.close();
  }

  private place(view: DataView, at: number, regionBytes: number): SubRegion {
    const { offset, size, fd_index, type, flags } = vfio_user_sub_region_ioeventfd.read(view, at);
    if (offset + size > regionBytes || fd_index >= this.fds.length) {
      const where = `${size} bytes at ${offset} of ${regionBytes}, descriptor ${fd_index} of ${this.fds.length}`;
      throw new Errno('EPROTO', `GET_REGION_IO_FDS: ${where}`);
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
