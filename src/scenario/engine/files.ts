/**
 * The user process's descriptors of devices. A mapping of a BAR, or a system call under way, keeps a device open after
 * its close.
 */
import { Errno } from '../../abi/errno.ts';
import type { Task } from '../../task/op.ts';
import type { VfioPciCoreDevice } from '../../vfio/core.ts';
import type { BarMapping } from '../../vfio/mmap.ts';

/** One open of a device (a struct file): released when its descriptor, its mappings and its system calls are gone. */
interface OpenFile {
  readonly device: VfioPciCoreDevice;
  /** Opened by the device's own node, for an iommufd; else by its group. */
  readonly cdev: boolean;
  references: number;
}

export class DeviceFiles {
  private readonly open = new Map<VfioPciCoreDevice, OpenFile[]>();
  private readonly mapped = new Map<BarMapping, OpenFile>();
  /** All opens that are not yet released. */
  private readonly files = new Set<OpenFile>();
  private readonly onClosed: (device: VfioPciCoreDevice) => Task<unknown>;

  /** `onClosed` is called after the last close of a device. */
  constructor(onClosed: (device: VfioPciCoreDevice) => Task<unknown>) {
    this.onClosed = onClosed;
  }

  isOpen(device: VfioPciCoreDevice): boolean {
    return this.open.has(device);
  }

  isOpenByCdev(device: VfioPciCoreDevice): boolean {
    return this.open.get(device)?.some(({ cdev }) => cdev) === true;
  }

  /** The groups of all devices that were opened one way, in the order in which they were opened. */
  groups(cdev: boolean): number[] {
    const files = [...this.open.values()].flat().filter((file) => file.cdev === cdev);
    return [...new Set(files.map(({ device }) => device.pdev.iommuGroup))];
  }

  /** Adds a descriptor for a device that was just opened. */
  add(device: VfioPciCoreDevice, cdev: boolean): void {
    const file = { device, cdev, references: 1 };
    this.files.add(file);
    this.open.set(device, [...(this.open.get(device) ?? []), file]);
  }

  /**
   * Whether a device may be opened. By its own node: EBUSY if its group is open, EINVAL if the device is open. By its
   * group, which the first open opens: EBUSY if a device of the group is open by its node, or if only mappings and
   * system calls keep the group open.
   */
  checkOpen(wanted: VfioPciCoreDevice, cdev: boolean): void {
    const { iommuGroup } = wanted.pdev;
    const users = [...this.files].filter(({ device }) => device.pdev.iommuGroup === iommuGroup);
    const isInUse = cdev
      ? users.some((file) => !file.cdev)
      : users.some((file) => file.cdev) || (users.length > 0 && !this.groups(false).includes(iommuGroup));
    if (isInUse) throw new Errno('EBUSY', `group ${iommuGroup} is in use`);
    if (cdev && users.some(({ device }) => device === wanted)) {
      throw new Errno('EINVAL', `${wanted.pdev.name} belongs to an iommufd already`);
    }
  }

  /** close(2) on the descriptor that was opened last. */
  *close(device: VfioPciCoreDevice): Task {
    const files = this.open.get(device)!;
    const file = files.pop()!;
    if (files.length === 0) this.open.delete(device);
    yield* this.put(file);
  }

  /**
   * A system call on the descriptor that was opened last. A close during the call returns; the end of the call then
   * releases the open.
   */
  *during<T>(device: VfioPciCoreDevice, call: Task<T>): Task<T> {
    const file = this.open.get(device)!.at(-1)!;
    file.references += 1;
    try {
      return yield* call;
    } finally {
      yield* this.put(file);
    }
  }

  mmap(device: VfioPciCoreDevice, mapping: BarMapping): void {
    const file = this.open.get(device)!.at(-1)!;
    file.references += 1;
    this.mapped.set(mapping, file);
  }

  *munmap(mapping: BarMapping): Task {
    mapping.unmap();
    const file = this.mapped.get(mapping)!;
    this.mapped.delete(mapping);
    yield* this.put(file);
  }

  *closeAll(): Task {
    for (const mapping of [...this.mapped.keys()]) yield* this.munmap(mapping);
    for (const device of [...this.open.keys()]) while (this.isOpen(device)) yield* this.close(device);
  }

  private *put(file: OpenFile): Task {
    file.references -= 1;
    if (file.references === 0) yield* this.release(file);
  }

  private *release(file: OpenFile): Task {
    const { device } = file;
    this.files.delete(file);
    yield* device.close();
    if (!device.isOpen) yield* this.onClosed(device);
  }
}
