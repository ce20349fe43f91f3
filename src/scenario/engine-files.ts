/** The descriptors that a user's process holds of devices: a mapping of a BAR keeps its device open beyond the close. */
import { Errno } from '../abi/errno.ts';
import { DONE, type Task } from '../task/op.ts';
import type { VfioPciCoreDevice } from '../vfio/core.ts';
import type { BarMapping } from '../vfio/mmap.ts';

/** One open of a device (a struct file): released when its descriptor and its mappings are gone. */
interface OpenFile {
  readonly device: VfioPciCoreDevice;
  references: number;
}

export class DeviceFiles {
  private readonly open = new Map<VfioPciCoreDevice, OpenFile[]>();
  private readonly mapped = new Map<BarMapping, OpenFile>();

  isOpen(device: VfioPciCoreDevice): boolean {
    return this.open.has(device);
  }

  /** The groups of all open devices, in the order in which they were opened. */
  groups(): number[] {
    return [...new Set([...this.open.keys()].map(({ pdev }) => pdev.iommuGroup))];
  }

  /** A descriptor for a device that was just opened. */
  add(device: VfioPciCoreDevice): void {
    const files = this.open.get(device) ?? [];
    files.push({ device, references: 1 });
    this.open.set(device, files);
  }

  /** The first open of a device opens its group: EBUSY where only mappings still have that open. */
  checkGroup({ pdev }: VfioPciCoreDevice): void {
    const { iommuGroup } = pdev;
    const isMapped = [...this.mapped.values()].some(({ device }) => device.pdev.iommuGroup === iommuGroup);
    if (isMapped && !this.groups().includes(iommuGroup)) throw new Errno('EBUSY', `group ${iommuGroup} is in use`);
  }

  /** close(2) on the descriptor that was opened last. */
  close(device: VfioPciCoreDevice): Task {
    const files = this.open.get(device)!;
    const file = files.pop()!;
    if (files.length === 0) this.open.delete(device);
    return this.put(file);
  }

  mmap(device: VfioPciCoreDevice, mapping: BarMapping): void {
    const file = this.open.get(device)!.at(-1)!;
    file.references += 1;
    this.mapped.set(mapping, file);
  }

  munmap(mapping: BarMapping): Task {
    mapping.unmap();
    const file = this.mapped.get(mapping)!;
    this.mapped.delete(mapping);
    return this.put(file);
  }

  *closeAll(): Task {
    for (const mapping of [...this.mapped.keys()]) yield* this.munmap(mapping);
    for (const device of [...this.open.keys()]) while (this.isOpen(device)) yield* this.close(device);
  }

  private put(file: OpenFile): Task {
    file.references -= 1;
    return file.references === 0 ? file.device.close() : DONE;
  }
}
