/**
 * Config space as the user of a device sees it (vfio_pci_config.c): some bits are a copy, some the hardware's, and some
 * writes are orders to vfio: the memory bit, the power state, FLR.
 */
import { Errno } from '../abi/errno.ts';
import {
  PCI_AF_CAP,
  PCI_AF_CAP_FLR,
  PCI_AF_CAP_TP,
  PCI_AF_CTRL,
  PCI_AF_CTRL_FLR,
  PCI_BASE_ADDRESS_0,
  PCI_BASE_ADDRESS_5,
  PCI_CAP_ID_AF,
  PCI_CAP_ID_EXP,
  PCI_CAP_ID_MSI,
  PCI_CAP_ID_PM,
  PCI_COMMAND,
  PCI_COMMAND_INTX_DISABLE,
  PCI_COMMAND_IO,
  PCI_COMMAND_MEMORY,
  PCI_EXP_DEVCAP,
  PCI_EXP_DEVCAP_FLR,
  PCI_EXP_DEVCTL,
  PCI_EXP_DEVCTL_BCR_FLR,
  PCI_MSI_FLAGS,
  PCI_MSI_FLAGS_ENABLE,
  PCI_MSI_FLAGS_QSIZE,
  PCI_PM_CTRL,
  PCI_PM_CTRL_STATE_MASK,
  PCI_ROM_ADDRESS,
  PCI_ROM_ADDRESS_ENABLE,
} from '../abi/pci_regs.ts';
import { VFIO_PCI_MSI_IRQ_INDEX } from '../abi/vfio.ts';
import type { PciPowerState } from '../pci/function.ts';
import type { Task } from '../task/op.ts';
import { type ConfigMap, configMapOf, OWNER_HEADER, OWNER_NONE, OWNER_VIRTUAL } from './config-map.ts';
import type { VfioPciCoreDevice } from './core.ts';
import { dmaBufMove } from './dmabuf.ts';

export class VfioConfig {
  readonly map: ConfigMap;
  private readonly vdev: VfioPciCoreDevice;
  private readonly copy: Uint8Array;
  private readonly copyView: DataView;
  private barsDirty = true;

  /** The device is in D0 and enabled: the copy starts as what the hardware shows now. */
  constructor(vdev: VfioPciCoreDevice) {
    this.vdev = vdev;
    const config = vdev.pdev.config;
    this.copy = config.snapshot();
    this.map = configMapOf(config, this.copy);
    this.copyView = new DataView(this.copy.buffer);
    for (const patch of this.map.patches) this.setCopy(patch.offset, patch.size, patch.value);
    const command = vdev.pdev.configRead(PCI_COMMAND, 2) & ~PCI_COMMAND_INTX_DISABLE;
    this.setCopy(PCI_COMMAND, 2, command);
    if (vdev.pdev.isVirtfn) {
      // A VF's own ids read as ones (SR-IOV 1.1, 3.4.1.1): users see those of the PF's description.
      this.setCopy(0, 2, vdev.pdev.vendorId);
      this.setCopy(2, 2, vdev.pdev.deviceId);
      // It has no memory bit (3.4.1.3): users see one that is set when they open it, as of any function.
      this.setCopy(PCI_COMMAND, 2, command | PCI_COMMAND_MEMORY);
    }
    if (vdev.interrupts.intxPin === 0) this.setCopy(0x3d, 1, 0);
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

  /** Writes the bytes; EFAULT outside of config space. What a write orders has happened when it returns. */
  *write(offset: number, from: Uint8Array): Task<number> {
    this.checkRange(offset, from.length);
    for (let at = 0; at < from.length; ) {
      const size = this.chunk(offset + at, from.length - at);
      let value = 0;
      for (let i = size - 1; i >= 0; i--) value = ((value << 8) | from[at + i]) >>> 0;
      yield* this.writeChunk(offset + at, size, value);
      at += size;
    }
    return from.length;
  }

  /** The user's view, for a migration. */
  save(): Uint8Array {
    return this.copy.slice();
  }

  /** The view of a user elsewhere: what users can change of it. MSI is off until it is enabled here. */
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

  private *writeChunk(offset: number, size: 1 | 2 | 4, value: number): Task {
    const owner = this.map.owner[offset];
    if (owner === OWNER_NONE) return yield* this.vdev.pdev.configWrite(offset, size, value);
    if (owner === OWNER_VIRTUAL) return;
    if (owner === OWNER_HEADER) return yield* this.writeHeader(offset, size, value);
    const start = this.map.find(owner)!.start;
    if (owner === PCI_CAP_ID_PM && offset === start + PCI_PM_CTRL) {
      // The other bits share the register: written without memory_lock they could bring an old power state back.
      const others = (): Task => this.writeDefault(offset, size, value);
      return yield* this.vdev.setPowerState((value & PCI_PM_CTRL_STATE_MASK) as PciPowerState, others);
    }
    yield* this.writeDefault(offset, size, value);
    if (owner === PCI_CAP_ID_EXP) {
      const at = start + PCI_EXP_DEVCTL - offset;
      if (hasBits(value, size, at, PCI_EXP_DEVCTL_BCR_FLR)) yield* this.resetByExpress(start);
    } else if (owner === PCI_CAP_ID_AF) {
      if (hasBits(value, size, start + PCI_AF_CTRL - offset, PCI_AF_CTRL_FLR))
        yield* this.resetByAdvancedFeatures(start);
    } else if (owner === PCI_CAP_ID_MSI) {
      yield* this.afterMsiWrite(start, offset, size);
    }
  }

  /** Bits of the copy go to the copy, the user's other writable bits to the hardware. */
  private *writeDefault(offset: number, size: 1 | 2 | 4, value: number): Task {
    const writable = gather(this.map.writable, offset, size);
    if (writable === 0) return;
    const virt = gather(this.map.virt, offset, size);
    const toCopy = virt & writable;
    if (toCopy !== 0) {
      this.setCopy(offset, size, ((this.getCopy(offset, size) & ~toCopy) | (value & toCopy)) >>> 0);
    }
    const toHardware = writable & ~virt;
    if (toHardware !== 0) {
      yield* this.vdev.pdev.configModify(offset, size, toHardware, value & toHardware);
    }
  }

  private *writeHeader(offset: number, size: 1 | 2 | 4, value: number): Task {
    if (isBar(offset)) this.barsDirty = true;
    if (offset === PCI_COMMAND) yield* this.writeCommand(size, value);
    else yield* this.writeDefault(offset, size, value);
    if (offset === PCI_COMMAND || offset === PCI_COMMAND + 1) {
      yield* this.applyIntxDisable();
    }
  }

  /**
   * A write that starts at COMMAND decides over memory: peers lose it before the bit is cleared, or get it back
   * after.
   */
  private *writeCommand(size: 1 | 2 | 4, value: number): Task {
    const vdev = this.vdev;
    yield* vdev.memoryLock.write();
    try {
      if ((value & PCI_COMMAND_MEMORY) === 0) {
        yield* vdev.zapMappings();
        yield* dmaBufMove(vdev, true);
      } else if (this.lostBars()) {
        yield* vdev.pdev.restoreBars();
      }
      yield* this.writeDefault(PCI_COMMAND, size, value);
      const shadowed = PCI_COMMAND_MEMORY | PCI_COMMAND_IO;
      this.setCopy(PCI_COMMAND, 2, (this.virtualWord(PCI_COMMAND) & ~shadowed) | (value & shadowed));
      if (vdev.mayLend()) yield* dmaBufMove(vdev, false);
    } finally {
      yield* vdev.memoryLock.releaseWrite();
    }
  }

  /** The user believes memory on and the hardware has it off: a reset behind our back, which cleared the BARs too. */
  private lostBars(): boolean {
    const pdev = this.vdev.pdev;
    const believed = (this.virtualWord(PCI_COMMAND) & PCI_COMMAND_MEMORY) !== 0;
    return believed && !pdev.isVirtfn && (pdev.configRead(PCI_COMMAND, 2) & PCI_COMMAND_MEMORY) === 0;
  }

  private *resetByExpress(start: number): Task {
    const devcap = this.vdev.pdev.configRead(start + PCI_EXP_DEVCAP, 4);
    if ((devcap & PCI_EXP_DEVCAP_FLR) !== 0) yield* this.vdev.functionLevelReset();
  }

  private *resetByAdvancedFeatures(start: number): Task {
    const needed = PCI_AF_CAP_FLR | PCI_AF_CAP_TP;
    if ((this.vdev.pdev.configRead(start + PCI_AF_CAP, 1) & needed) === needed) yield* this.vdev.functionLevelReset();
  }

  /** MSI is switched on by SET_IRQS alone, and never for more vectors than that asked for last. */
  private *afterMsiWrite(start: number, offset: number, size: number): Task {
    const at = start + PCI_MSI_FLAGS;
    if (offset > at || offset + size <= at) return;
    let flags = this.virtualWord(at);
    if (this.vdev.interrupts.activeIndex !== VFIO_PCI_MSI_IRQ_INDEX) flags &= ~PCI_MSI_FLAGS_ENABLE;
    const most = this.vdev.interrupts.msiQmax;
    if ((flags & PCI_MSI_FLAGS_QSIZE) >> 4 > most) flags = (flags & ~PCI_MSI_FLAGS_QSIZE) | (most << 4);
    this.setCopy(at, 2, flags);
    yield* this.vdev.pdev.configWrite(at, 2, flags);
  }

  /** What the user wrote to size a BAR reads back as hardware would answer: the size mask and the type bits. */
  private fixBars(): void {
    if (!this.barsDirty) return;
    this.barsDirty = false;
    const pdev = this.vdev.pdev;
    for (let i = 0; i < 6; i++) {
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

  private getCopy(offset: number, size: 1 | 2 | 4): number {
    return gather(this.copy, offset, size);
  }

  private setCopy(offset: number, size: 1 | 2 | 4, value: number): void {
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

/** Whether `value`, of `size` bytes, has one of the bits of a register of a word that begins `at` bytes after it. */
function hasBits(value: number, size: number, at: number, bits: number): boolean {
  for (let i = Math.max(0, at); i < Math.min(size, at + 2); i++) {
    if (((value >>> (8 * i)) & (bits >>> (8 * (i - at))) & 0xff) !== 0) return true;
  }
  return false;
}

function mask(size: 1 | 2 | 4): number {
  return size === 4 ? 0xffffffff : 2 ** (8 * size) - 1;
}
