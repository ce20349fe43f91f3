/**
 * Config space as the user of a device sees it (vfio_pci_config.c): some bits are a copy and some are the hardware's.
 * Some writes are orders to vfio: the memory bit, the power state, FLR. perms/ has the rules for each capability.
 */
import { Errno } from '../abi/errno.ts';
import {
  PCI_BASE_ADDRESS_0,
  PCI_BASE_ADDRESS_5,
  PCI_CAP_ID_MSI,
  PCI_COMMAND,
  PCI_COMMAND_INTX_DISABLE,
  PCI_COMMAND_IO,
  PCI_COMMAND_MEMORY,
  PCI_INTERRUPT_PIN,
  PCI_MSI_FLAGS,
  PCI_MSI_FLAGS_ENABLE,
  PCI_ROM_ADDRESS,
  PCI_ROM_ADDRESS_ENABLE,
  PCI_STD_NUM_BARS,
} from '../abi/pci_regs.ts';
import type { RegisterWrite } from '../pci/register-write.ts';
import type { Task } from '../task/op.ts';
import { type ConfigMap, configMapOf, OWNER_HEADER, OWNER_NONE } from './config-map.ts';
import { type MemoryOwner, restoreMemory, revokeMemory } from './lending.ts';
import type { ConfigDevice, UserConfig } from './perms/perm-bits.ts';

/** The device behind a config space. */
export interface ConfiguredDevice extends ConfigDevice, MemoryOwner {
  readonly interrupts: ConfigDevice['interrupts'] & {
    readonly intxPin: number;
    setIntxDisable(disabled: boolean): Task;
  };
}

export class VfioConfig implements UserConfig {
  readonly map: ConfigMap;
  readonly vdev: ConfiguredDevice;
  private readonly copy: Uint8Array;
  private readonly copyView: DataView;
  private barsDirty = true;

  /** Must be called when the device is in D0 and enabled: the copy starts with the hardware's present values. */
  constructor(vdev: ConfiguredDevice) {
    this.vdev = vdev;
    const { config } = vdev.pdev;
    this.copy = config.snapshot();
    this.map = configMapOf(config, this.copy);
    this.copyView = new DataView(this.copy.buffer);
    for (const [offset, value] of this.map.patches) this.copy[offset] = value;
    if (vdev.pdev.isVirtfn) {
      // A VF's own ids read as ones (SR-IOV 1.1, 3.4.1.1): users see the ids that its PF describes.
      this.setCopy(0, 2, vdev.pdev.vendorId);
      this.setCopy(2, 2, vdev.pdev.deviceId);
      // A VF has no memory bit (3.4.1.3). Its user sees one that is set at open, as for any function.
      this.setCopy(PCI_COMMAND, 2, this.virtualWord(PCI_COMMAND) | PCI_COMMAND_MEMORY);
    }
    if (vdev.interrupts.intxPin === 0) this.setCopy(PCI_INTERRUPT_PIN, 1, 0);
  }

  /** A 16-bit word of the user's copy. */
  virtualWord(offset: number): number {
    return this.copyView.getUint16(offset, true);
  }

  /** Reads `into.length` bytes; EFAULT outside of config space. */
  *read(offset: number, into: Uint8Array): Task<number> {
    this.checkRange(offset, into.length);
    for (let at = 0; at < into.length; ) {
      const size = this.chunk(offset + at, into.length - at);
      let value = this.readChunk(offset + at, size);
      for (let i = 0; i < size; i++) {
        into[at + i] = value & 0xff;
        value >>>= 8;
      }
      at += size;
    }
    return into.length;
  }

  /** Writes the bytes; EFAULT outside of config space. Returns after everything that the write orders has happened. */
  *write(offset: number, from: Uint8Array): Task<number> {
    this.checkRange(offset, from.length);
    for (let at = 0; at < from.length; ) {
      const size = this.chunk(offset + at, from.length - at);
      let value = 0;
      for (let i = size - 1; i >= 0; i--) value = ((value << 8) | from[at + i]) >>> 0;
      yield* this.writeChunk({ offset: offset + at, size, value });
      at += size;
    }
    return from.length;
  }

  /** The user's view, for a migration. */
  save(): Uint8Array {
    return this.copy.slice();
  }

  /** Takes over another user's view, as far as users can change it. MSI stays off until it is enabled here. */
  load(saved: Uint8Array): void {
    for (let i = 0; i < this.copy.length; i++) {
      const bits = this.map.virt[i] & this.map.writable[i];
      this.copy[i] = (this.copy[i] & ~bits) | (saved[i] & bits);
    }
    const shadowed = PCI_COMMAND_MEMORY | PCI_COMMAND_IO;
    const command = saved[PCI_COMMAND] & shadowed;
    this.setCopy(PCI_COMMAND, 2, (this.virtualWord(PCI_COMMAND) & ~shadowed) | command);
    const msi = this.map.find(PCI_CAP_ID_MSI);
    if (msi !== undefined) {
      const at = msi.start + PCI_MSI_FLAGS;
      this.setCopy(at, 2, this.virtualWord(at) & ~PCI_MSI_FLAGS_ENABLE);
    }
    this.barsDirty = true;
  }

  /** After `load`, without memory_lock: vfio masks INTx for the user's COMMAND.INTX_DISABLE. */
  applyIntxDisable(): Task {
    return this.vdev.interrupts.setIntxDisable((this.virtualWord(PCI_COMMAND) & PCI_COMMAND_INTX_DISABLE) !== 0);
  }

  private checkRange(offset: number, length: number): void {
    if (offset < 0 || offset + length > this.copy.length) {
      throw new Errno('EFAULT', `bytes ${offset} to ${offset + length} of ${this.copy.length} bytes of config space`);
    }
  }

  /** One access stays in one dword and one capability, and is 4, 2 or 1 bytes, aligned. */
  private chunk(offset: number, left: number): 1 | 2 | 4 {
    const owner = this.map.owner;
    const limit = Math.min(left, 4 - (offset & 3));
    let length = 1;
    while (length < limit && owner[offset + length] === owner[offset]) length++;
    if (length >= 4 && (offset & 3) === 0) return 4;
    return length >= 2 && (offset & 1) === 0 ? 2 : 1;
  }

  private readChunk(offset: number, size: 1 | 2 | 4): number {
    if (isBar(offset)) this.fixBars();
    const pdev = this.vdev.pdev;
    const virt = gather(this.map.virt, offset, size);
    let value = (this.getCopy(offset, size) & virt) >>> 0;
    if (virt !== mask(size)) value = ((pdev.configRead(offset, size) & ~virt) | value) >>> 0;
    if (offset === PCI_COMMAND && pdev.isVirtfn) value |= this.virtualWord(PCI_COMMAND) & PCI_COMMAND_MEMORY;
    return value;
  }

  private *writeChunk(write: RegisterWrite): Task {
    const owner = this.map.owner[write.offset];
    if (owner === OWNER_NONE) return yield* this.vdev.pdev.configWrite(write.offset, write.size, write.value);
    if (owner === OWNER_HEADER) return yield* this.writeHeader(write);
    const { rule, start } = this.map.capabilities[owner];
    yield* rule.write === undefined ? this.writeDefault(write) : rule.write(this, write, start);
  }

  hardwareBits({ offset, size, value }: RegisterWrite): { mask: number; value: number } {
    const bits = (gather(this.map.writable, offset, size) & ~gather(this.map.virt, offset, size)) >>> 0;
    return { mask: bits, value: (value & bits) >>> 0 };
  }

  *writeDefault(write: RegisterWrite): Task {
    const { offset, size, value } = write;
    const toCopy = gather(this.map.virt, offset, size) & gather(this.map.writable, offset, size);
    if (toCopy !== 0) {
      this.setCopy(offset, size, ((this.getCopy(offset, size) & ~toCopy) | (value & toCopy)) >>> 0);
    }
    const toHardware = this.hardwareBits(write);
    if (toHardware.mask !== 0) {
      yield* this.vdev.pdev.configModify(offset, size, toHardware.mask, toHardware.value);
    }
  }

  private *writeHeader(write: RegisterWrite): Task {
    const { offset } = write;
    if (isBar(offset)) this.barsDirty = true;
    if (offset === PCI_COMMAND) yield* this.writeCommand(write);
    else yield* this.writeDefault(write);
    if (offset === PCI_COMMAND || offset === PCI_COMMAND + 1) yield* this.applyIntxDisable();
  }

  /**
   * A write that starts at COMMAND switches memory. Peers lose it before the bit is cleared, or get it back after it is
   * set.
   */
  private *writeCommand(write: RegisterWrite): Task {
    const { vdev } = this;
    yield* vdev.memoryLock.write();
    try {
      if ((write.value & PCI_COMMAND_MEMORY) === 0) {
        yield* revokeMemory(vdev, 'memory bit');
      } else if (this.lostBars()) {
        vdev.pdev.writeBarAddresses();
      }
      yield* this.writeDefault(write);
      const shadowed = PCI_COMMAND_MEMORY | PCI_COMMAND_IO;
      this.setCopy(PCI_COMMAND, 2, (this.virtualWord(PCI_COMMAND) & ~shadowed) | (write.value & shadowed));
      yield* restoreMemory(vdev);
    } finally {
      yield* vdev.memoryLock.releaseWrite();
    }
  }

  /**
   * True where memory is on for the user and off in the hardware: a reset that vfio did not see cleared the BARs too.
   */
  private lostBars(): boolean {
    const pdev = this.vdev.pdev;
    const believed = (this.virtualWord(PCI_COMMAND) & PCI_COMMAND_MEMORY) !== 0;
    return believed && !pdev.isVirtfn && (pdev.configRead(PCI_COMMAND, 2) & PCI_COMMAND_MEMORY) === 0;
  }

  /** Makes a BAR that the user wrote to size it read back as hardware answers: the size mask and the type bits. */
  private fixBars(): void {
    if (!this.barsDirty) return;
    this.barsDirty = false;
    const pdev = this.vdev.pdev;
    for (let i = 0; i < PCI_STD_NUM_BARS; i++) {
      const bar = pdev.bars[i];
      const at = PCI_BASE_ADDRESS_0 + 4 * i;
      if (bar === null || bar === undefined) {
        const below = i > 0 ? pdev.bars[i - 1] : null;
        const high = below?.kind === 'mem64' ? ~Math.floor((below.sizeBytes - 1) / 2 ** 32) : 0;
        this.setCopy(at, 4, (this.getCopy(at, 4) & high) >>> 0);
        continue;
      }
      const sizeMask = bar.sizeBytes >= 2 ** 32 ? 0 : ~(bar.sizeBytes - 1);
      this.setCopy(at, 4, ((this.getCopy(at, 4) & sizeMask) | bar.typeBits) >>> 0);
    }
    const romBytes = pdev.romSizeBytes;
    const romMask = romBytes > 0 ? ~(romBytes - 1) | PCI_ROM_ADDRESS_ENABLE : 0;
    this.setCopy(PCI_ROM_ADDRESS, 4, (this.getCopy(PCI_ROM_ADDRESS, 4) & romMask) >>> 0);
  }

  getCopy(offset: number, size: 1 | 2 | 4): number {
    return gather(this.copy, offset, size);
  }

  setCopy(offset: number, size: 1 | 2 | 4, value: number): void {
    for (let i = 0; i < size; i++) this.copy[offset + i] = (value >>> (8 * i)) & 0xff;
  }
}

function isBar(offset: number): boolean {
  const rom = offset >= PCI_ROM_ADDRESS && offset < PCI_ROM_ADDRESS + 4;
  return rom || (offset >= PCI_BASE_ADDRESS_0 && offset < PCI_BASE_ADDRESS_5 + 4);
}

function gather(bytes: Uint8Array, offset: number, size: number): number {
  let value = 0;
  for (let i = size - 1; i >= 0; i--) value = ((value << 8) | bytes[offset + i]) >>> 0;
  return value;
}

function mask(size: 1 | 2 | 4): number {
  return size === 4 ? 0xffffffff : 2 ** (8 * size) - 1;
}
