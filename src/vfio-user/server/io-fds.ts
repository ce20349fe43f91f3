/** GET_REGION_IO_FDS: eventfds that stand for writes to the doorbells of a region. */
import { Errno } from '../../abi/errno.ts';
import {
  KVM_IOEVENTFD_FLAG_DATAMATCH,
  VFIO_USER_IO_FD_TYPE_IOEVENTFD,
  vfio_user_region_io_fds,
  vfio_user_sub_region_ioeventfd,
} from '../../abi/vfio-user.ts';
import { createEventfd } from '../../linux/eventfd.ts';
import type { OwnedFd } from '../../linux/fd.ts';
import type { Doorbell } from '../../pci/bar.ts';
import type { Task } from '../../task/op.ts';
import { runner } from '../../task/runner.ts';
import type { VfioPciCoreDevice } from '../../vfio/core.ts';
import { ringDoorbell } from '../../vfio/rdwr.ts';
import { regionInfo } from '../../vfio/regions.ts';
import type { EventLoop } from '../wire/event-loop.ts';
import { EventWatch } from '../wire/event-watch.ts';
import type { Frame } from '../wire/frame.ts';
import { checkArgsz, decode, type Reply } from './reply.ts';
import type { ReadySession } from './session.ts';

/** The eventfds of one client: one for each doorbell that it asked for, however often it asks. */
export class IoFds {
  private readonly loop: EventLoop;
  private readonly vdev: VfioPciCoreDevice;
  private readonly given = new Map<Doorbell, { fd: OwnedFd; watch: EventWatch }>();

  constructor(loop: EventLoop, vdev: VfioPciCoreDevice) {
    this.loop = loop;
    this.vdev = vdev;
  }

  /** The descriptor stays here. */
  eventfd(doorbell: Doorbell): number {
    let entry = this.given.get(doorbell);
    if (entry === undefined) {
      const fd = createEventfd(`doorbell of ${this.vdev.pdev.name}`);
      try {
        entry = { fd, watch: this.watch(fd, doorbell) };
      } catch (error) {
        fd.close();
        throw error;
      }
      this.given.set(doorbell, entry);
    }
    return entry.fd.fd;
  }

  private watch(fd: OwnedFd, doorbell: Doorbell): EventWatch {
    return new EventWatch(this.loop, fd.duplicate(), () => {
      runner.start(`doorbell of ${this.vdev.pdev.name}`, ringDoorbell(this.vdev, doorbell));
    });
  }

  close(): void {
    for (const { fd, watch } of this.given.values()) {
      watch.release();
      fd.close();
    }
    this.given.clear();
  }
}

/** As many doorbells as the client takes descriptors in one message; without any the region has no entries. */
export function* getRegionIoFds(session: ReadySession, frame: Frame, reply: Reply): Task {
  const { vdev, ioFds, capabilities } = session;
  const { argsz: room, flags, index, count } = vfio_user_region_io_fds.read(decode(vfio_user_region_io_fds, frame));
  checkArgsz(room, vfio_user_region_io_fds);
  if (flags !== 0 || count !== 0) throw new Errno('EINVAL', `GET_REGION_IO_FDS: flags ${flags}, count ${count}`);
  regionInfo(vdev, index);
  const doorbells = (vdev.pdev.bars[index]?.target.doorbells ?? []).slice(0, capabilities.maxMsgFds);
  const argsz = vfio_user_region_io_fds.sizeof + doorbells.length * vfio_user_sub_region_ioeventfd.sizeof;
  reply.append(vfio_user_region_io_fds.encode({ argsz, index, count: doorbells.length }));
  if (argsz > room) return;
  for (const [fdIndex, doorbell] of doorbells.entries()) {
    const { offset, sizeBytes: size, datamatch } = doorbell;
    const kind = { type: VFIO_USER_IO_FD_TYPE_IOEVENTFD, flags: KVM_IOEVENTFD_FLAG_DATAMATCH };
    reply.append(vfio_user_sub_region_ioeventfd.encode({ offset, size, fd_index: fdIndex, ...kind, datamatch }));
    reply.fds.push(ioFds.eventfd(doorbell));
  }
}
