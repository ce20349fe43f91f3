/**
 * VIRTIO_PCI_CAP_PCI_CFG (virtio 1.3, 4.1.4.9): four bytes of config space through which a driver reaches the BARs, as
 * firmware without mappings does. The driver chooses BAR, offset and length; then a read or a write of `pci_cfg_data` is
 * an access there.
 */
import { PCI_CAP_ID_VNDR } from '../../abi/pci_regs.ts';
import { VIRTIO_PCI_CAP_PCI_CFG, virtio_pci_cap, virtio_pci_cfg_cap } from '../../abi/virtio_pci.ts';
import type { ConfigModel, PciFunction } from '../../pci/function.ts';
import { overlaps, type RegisterWrite } from '../../pci/register-write.ts';

const { bar, offset, length, cfg_type } = virtio_pci_cap.fields;
const DATA = virtio_pci_cfg_cap.fields.pci_cfg_data;

export const CONFIG_WINDOW_CAPABILITY = virtio_pci_cfg_cap.encode({
  cap: virtio_pci_cap.encode({
    cap_vndr: PCI_CAP_ID_VNDR,
    cap_len: virtio_pci_cfg_cap.sizeof,
    cfg_type: VIRTIO_PCI_CAP_PCI_CFG,
  }),
});

export class ConfigWindow implements ConfigModel {
  private readonly fn: PciFunction;
  private readonly at: number;

  constructor(fn: PciFunction) {
    this.fn = fn;
    const { config } = fn;
    const found = config
      .capabilities()
      .find(
        (one) => one.id === PCI_CAP_ID_VNDR && config.read(one.offset + cfg_type.offset, 1) === VIRTIO_PCI_CAP_PCI_CFG,
      );
    if (found === undefined) throw new Error(`${fn.name} has no VIRTIO_PCI_CAP_PCI_CFG`);
    this.at = found.offset;
    config.allow(this.at + bar.offset, 1, 0xff);
    for (const field of [offset, length]) config.allow(this.at + field.offset, 4, 0xffff_ffff);
    config.allow(this.at + DATA.offset, DATA.size, 0xffff_ffff);
  }

  beforeRead(register: number, sizeBytes: number): void {
    if (!overlaps(register, sizeBytes, this.at + DATA.offset, DATA.size)) return;
    const target = this.target();
    if (target === null) return;
    target.bar.target.read(target.offset, target.bytes);
    for (const [i, byte] of target.bytes.entries()) this.fn.config.set(this.at + DATA.offset + i, 1, byte);
  }

  afterWrite(write: RegisterWrite): void {
    if (!overlaps(write.offset, write.size, this.at + DATA.offset, DATA.size)) return;
    const target = this.target();
    if (target === null) return;
    for (const i of target.bytes.keys()) target.bytes[i] = this.fn.config.read(this.at + DATA.offset + i, 1);
    target.bar.target.write(target.offset, target.bytes);
  }

  /** The place that the driver chose; null for one that it must not choose. Such an access changes nothing. */
  private target() {
    const { config, bars } = this.fn;
    const chosen = bars[config.read(this.at + bar.offset, 1)] ?? null;
    const start = config.read(this.at + offset.offset, 4);
    const count = config.read(this.at + length.offset, 4);
    const isLength = count === 1 || count === 2 || count === 4;
    if (chosen === null || !isLength || start % count !== 0 || start + count > chosen.sizeBytes) return null;
    return { bar: chosen, offset: start, bytes: new Uint8Array(count) };
  }
}
