/** Eventfds that stand for writes to the doorbells of a device. */
import { createEventfd } from '../../linux/eventfd.ts';
import type { OwnedFd } from '../../linux/fd.ts';
import type { Doorbell } from '../../pci/bar.ts';
import { runner } from '../../task/runner.ts';
import type { VfioPciCoreDevice } from '../../vfio/core.ts';
import { ringDoorbell } from '../../vfio/rdwr.ts';
import type { EventLoop } from '../wire/event-loop.ts';
import { EventWatch } from '../wire/event-watch.ts';

/** The eventfds of one client: one for each doorbell, however often the client asks. */
export class IoFds {
  private readonly loop: EventLoop;
  private readonly vdev: VfioPciCoreDevice;
  private readonly given = new Map<Doorbell, { fd: OwnedFd; watch: EventWatch }>();

  constructor(loop: EventLoop, vdev: VfioPciCoreDevice) {
    this.loop = loop;
    this.vdev = vdev;
  }

  /** Returns the doorbell's eventfd. IoFds keeps the ownership. */
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
