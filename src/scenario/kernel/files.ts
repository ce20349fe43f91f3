/** This process's descriptors of real devices, and of their groups and iommufds. */
import { openGroup, type VfioGroup } from '../../linux/vfio/container.ts';
import { VfioDevice } from '../../linux/vfio/device.ts';

/** A device with all its opens: any number through its group, or one by its own node for an iommufd. */
export class OpenDevice {
  /** Null for a device of an iommufd. */
  readonly group: OpenGroup | null;
  private readonly opens: VfioDevice[] = [];

  constructor(group: OpenGroup | null) {
    this.group = group;
  }

  static throughCdev(device: VfioDevice): OpenDevice {
    const opened = new OpenDevice(null);
    opened.opens.push(device);
    return opened;
  }

  get device(): VfioDevice {
    return this.opens.at(-1)!;
  }

  get isOpen(): boolean {
    return this.opens.length > 0;
  }

  /** Opens it once more through its group. */
  open(address: string, vfToken: string | undefined): void {
    const group = this.group!;
    const fd = group.fd.getDevice(address, vfToken);
    group.users += 1;
    this.opens.push(new VfioDevice(fd, address, { after: () => group.put() }));
  }

  /** Closes the last open. */
  close(): void {
    this.opens.pop()!.close();
  }

  /** As `close`, but the caller closes the descriptor itself, and calls the returned function afterwards. */
  release(): () => void {
    const device = this.opens.pop()!;
    return () => device.closed();
  }

  closeAll(): void {
    while (this.isOpen) this.close();
  }
}

/** A group in its container, for all of its open devices; it closes with the last of them. */
export class OpenGroup {
  readonly fd: VfioGroup;
  users = 0;
  private readonly close: () => void;

  /** EBUSY where a device of the group is open elsewhere. */
  constructor(groupId: number) {
    const { group, close } = openGroup(groupId);
    this.fd = group;
    this.close = close;
  }

  put(): void {
    this.users -= 1;
    this.closeUnused();
  }

  closeUnused(): void {
    if (this.users === 0) this.close();
  }
}
