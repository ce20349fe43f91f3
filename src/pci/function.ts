/**
 * A PCI function as hardware: registers with their side effects, BARs and DMA. reset.ts and msi.ts do what Linux's PCI
 * core does with it. vfio/ decides what a user of the device may see and do.
 */
import {
  PCI_AF_CTRL,
  PCI_AF_CTRL_FLR,
  PCI_CACHE_LINE_SIZE,
  PCI_CAP_ID_AF,
  PCI_CAP_ID_EXP,
  PCI_CAP_ID_PM,
  PCI_CLASS_REVISION,
  PCI_COMMAND,
  PCI_COMMAND_MASTER,
  PCI_COMMAND_MEMORY,
  PCI_DEVICE_ID,
  PCI_EXP_DEVCTL,
  PCI_EXP_DEVCTL_BCR_FLR,
  PCI_EXT_CAP_ID_SRIOV,
  PCI_INTERRUPT_LINE,
  PCI_PM_CTRL,
  PCI_PM_CTRL_NO_SOFT_RESET,
  PCI_PM_CTRL_STATE_MASK,
  PCI_STATUS,
  PCI_VENDOR_ID,
} from '../abi/pci_regs.ts';
import { PCI_SRIOV_VF_DID } from '../abi/pci_regs-ext.ts';
import { Cell } from '../task/cell.ts';
import type { Task } from '../task/op.ts';
import { type Bar, checkSlots } from './bar.ts';
import type { ConfigSpace } from './config-space.ts';
import type { CopyOutcome, DmaAddressSpace, DmaStatus } from './dma.ts';
import type { Fabric } from './fabric.ts';
import { Lifecycle } from './lifecycle.ts';
import { disableMsi } from './msi.ts';
import type { Port } from './port.ts';
import { canEnter, type PciPowerState, powerStateIn } from './power-state.ts';
import { covers, type RegisterWrite, setsBits } from './register-write.ts';
import { hasAfFlr, hasFlr } from './reset.ts';
import type { Vpd } from './vpd.ts';

/** Where a function is on the fabric. */
export interface PciAddress {
  /** The PCI segment (domain). */
  segment: number;
  /** 0 to 255. */
  bus: number;
  /** Slot and function: slot << 3 | function. */
  devfn: number;
}

/** The receiver of a function's interrupts. Called by the device model; must not block. */
export interface InterruptSink {
  msi(vector: number): void;
  intx(level: boolean): void;
}

/** Hears of the DMA writes of a function. */
export interface DmaWriteSink {
  /** Called after a write has arrived; `address` is the one that the function used. Must not wait. */
  written(address: number, sizeBytes: number): void;
}

/** A device model with registers in config space. Its calls must not block. */
export interface ConfigModel {
  /** Called before the bytes are read. The model may set them. */
  beforeRead(offset: number, sizeBytes: number): void;
  /** Called after the registers have taken the write. */
  afterWrite(write: RegisterWrite): void;
}

/** The parts of a new function. */
export interface FunctionSpec {
  name: string;
  config: ConfigSpace;
  /** Six slots, each BAR in the slot of its index. An empty slot and the upper half of a 64-bit BAR are null. */
  bars: readonly (Bar | null)[];
  romSizeBytes?: number;
  vpd?: Vpd;
  physfn?: PciFunction | null;
}

/** A PCI function: registers, BARs, power state and DMA. A driver and TLPs of peers reach it. */
export class PciFunction {
  /** The name of the device in its machine. */
  readonly name: string;
  /** The registers, without the effects that `configWrite` has. */
  readonly config: ConfigSpace;
  /** Six slots, each BAR in the slot of its index. */
  readonly bars: readonly (Bar | null)[];
  /** Bytes of the expansion ROM; 0 without one. */
  readonly romSizeBytes: number;
  /** Null if the function does not have vital product data, or its VPD capability does not answer. */
  readonly vpd: Vpd | null;
  /** For a VF: its PF. */
  readonly physfn: PciFunction | null;
  /** For a PF: its VFs. */
  readonly virtfns: PciFunction[] = [];
  /** The memory BARs answer: the memory bit is set and the function is in D0 (PCI PM 1.2, 5.3). TLPs race with it. */
  readonly memoryDecode: Cell<boolean>;
  /** 0 for D0 to 3 for D3hot. A device answers in D0 only. */
  readonly powerState: Cell<PciPowerState>;
  /** Counts changes of the registers. It makes them visible steps, since users write some registers without a lock. */
  private readonly changes: Cell<number>;
  /** The calls that the device model gets, and their order. */
  readonly lifecycle: Lifecycle;
  /** Set by a device model that has registers in config space. */
  configModel: ConfigModel | null = null;
  /** Set by vfio. Interrupts of a function without a driver go nowhere. */
  interrupts: InterruptSink | null = null;
  /** The address space that translates the function's DMA; null while none is attached: DMA is then identity. */
  iommuDomain: DmaAddressSpace | null = null;
  /** dma_set_mask: the bits of its DMA addresses. */
  dmaBits: 32 | 64 = 64;
  /** The number of its IOMMU group; set when the function is plugged in. */
  iommuGroup = 0;
  /** Counts resets: a DMA request that was under way at one has no further part. */
  resets = 0;
  /** As `powerState`, for DMA requests, which do not take a step to look. */
  private isInD0 = true;
  /** Counts calls of `setPowerState`. */
  powerSets = 0;
  /** The bytes that its DMA has moved; a copy counts once. For people who watch. */
  dmaBytes = 0;
  /** Hears of every DMA write after it has arrived, by the address that the function used. */
  dmaLog: DmaWriteSink | null = null;
  /** Set when the function is plugged in. */
  fabric: Fabric | null = null;
  /** The port above it; set when the function is plugged in. */
  parent: Port | null = null;
  /** Segment, bus and device number; set when the function is plugged in. */
  address: PciAddress = { segment: 0, bus: 0, devfn: 0 };
  private readonly atPowerOn: Uint8Array;

  constructor(spec: FunctionSpec) {
    checkSlots(spec.name, spec.bars);
    this.name = spec.name;
    this.lifecycle = new Lifecycle(spec.name);
    this.config = spec.config;
    this.bars = spec.bars;
    this.romSizeBytes = spec.romSizeBytes ?? 0;
    this.vpd = spec.vpd ?? null;
    this.physfn = spec.physfn ?? null;
    this.physfn?.virtfns.push(this);
    // A VF decodes as soon as it is there, since its PF's VF MSE is its memory bit.
    this.memoryDecode = new Cell(`${spec.name}.memory`, this.isVirtfn);
    this.powerState = new Cell<PciPowerState>(`${spec.name}.power`, 0);
    this.changes = new Cell(`${spec.name}.config`, 0);
    this.declareHeader();
    this.atPowerOn = this.config.save();
  }

  /** A VF's ids are in its PF's registers (SR-IOV 1.1, 3.3.11); its own registers read as ones. */
  get vendorId(): number {
    return this.physfn?.vendorId ?? this.config.read(PCI_VENDOR_ID, 2);
  }

  /** 16 bits. A VF has the id that its PF declares. */
  get deviceId(): number {
    if (this.physfn === null) return this.config.read(PCI_DEVICE_ID, 2);
    return this.physfn.config.read(this.physfn.config.findExt(PCI_EXT_CAP_ID_SRIOV) + PCI_SRIOV_VF_DID, 2);
  }

  /** 24 bits: class, subclass, interface. */
  get classCode(): number {
    return this.config.read(PCI_CLASS_REVISION, 4) >>> 8;
  }

  /** Whether it is a virtual function (SR-IOV). */
  get isVirtfn(): boolean {
    return this.physfn !== null;
  }

  /** As sysfs writes it: 0000:01:00.0. */
  get bdf(): string {
    const hex = (value: number, width: number) => value.toString(16).padStart(width, '0');
    const { segment, bus, devfn } = this.address;
    return `${hex(segment, 4)}:${hex(bus, 2)}:${hex(devfn >> 3, 2)}.${devfn & 7}`;
  }

  /** Reads 1, 2 or 4 bytes of the registers, little-endian. */
  configRead(offset: number, size: number): number {
    this.configModel?.beforeRead(offset, size);
    return this.config.read(offset, size);
  }

  /** A config write with its effects on the hardware: decoding, power states, FLR. */
  *configWrite(offset: number, size: 1 | 2 | 4, value: number): Task {
    yield* this.registersChange();
    yield* this.writeRegisters({ offset, size, value });
  }

  /** Clears the bits of `clear`, then sets those of `set`, in one step: no other write comes between. */
  *configModify(offset: number, size: 1 | 2 | 4, clear: number, set: number): Task {
    yield* this.registersChange();
    yield* this.writeRegisters({ offset, size, value: ((this.config.read(offset, size) & ~clear) | set) >>> 0 });
  }

  private *writeRegisters(write: RegisterWrite): Task {
    const before = this.config.read(PCI_COMMAND, 2);
    this.config.write(write.offset, write.size, write.value);
    this.vpd?.afterWrite(this.config, write);
    this.configModel?.afterWrite(write);
    if (this.config.read(PCI_COMMAND, 2) !== before) yield* this.updateDecode();
    const pm = this.config.find(PCI_CAP_ID_PM);
    if (pm !== 0 && covers(write, pm + PCI_PM_CTRL)) yield* this.afterPowerWrite(pm);
    const express = this.config.find(PCI_CAP_ID_EXP);
    // "Initiate FLR" is not stored: only the written value has it, and it reads as 0.
    if (setsBits(write, express + PCI_EXP_DEVCTL, PCI_EXP_DEVCTL_BCR_FLR) && hasFlr(this.config)) {
      yield* this.hardwareReset();
    }
    const af = this.config.find(PCI_CAP_ID_AF);
    if (setsBits(write, af + PCI_AF_CTRL, PCI_AF_CTRL_FLR) && hasAfFlr(this.config)) yield* this.hardwareReset();
  }

  /** Puts back what `config.save` returned: registers, and decoding that follows from them (pci_restore_state). */
  *restoreState(saved: Uint8Array): Task {
    yield* this.registersChange();
    this.config.restore(saved);
    yield* this.updateDecode();
    // The restored registers include the enable bit of its VFs.
    for (const virtfn of this.virtfns) yield* virtfn.updateDecode();
  }

  /** The effect of a reset line or FLR on the hardware: registers as at power on, nothing decodes, D0. */
  *hardwareReset(): Task {
    this.resets += 1;
    yield* this.memoryDecode.store(false);
    yield* this.changePowerState(0);
    yield* this.registersChange();
    this.config.restore(this.atPowerOn);
    this.lifecycle.reset();
    for (const virtfn of this.virtfns) yield* virtfn.hardwareReset();
  }

  /** pci_set_power_state: restores registers that D3hot loses. Does nothing if the function cannot enter the state. */
  *setPowerState(state: PciPowerState): Task {
    this.powerSets += 1;
    const pm = this.config.find(PCI_CAP_ID_PM);
    if (pm === 0 || this.powerState.value === state || !canEnter(this.config, this.powerState.value, state)) return;
    const saved = this.config.save();
    const control = this.config.read(pm + PCI_PM_CTRL, 2);
    yield* this.configWrite(pm + PCI_PM_CTRL, 2, (control & ~PCI_PM_CTRL_STATE_MASK) | state);
    if (state !== 0) return;
    this.config.restore(saved);
    this.config.set(pm + PCI_PM_CTRL, 2, control & ~PCI_PM_CTRL_STATE_MASK);
    yield* this.updateDecode();
  }

  /** Keeps the device from starting DMA until as many `resume` calls; waits for DMA under way. */
  quiesce(): Task {
    return this.lifecycle.quiesce();
  }

  /** Lets the device do DMA again, once for each `quiesce`. */
  resume(): Task {
    return this.lifecycle.resume();
  }

  /**
   * Loads the registers of another function of the same kind, and applies decoding and power state. BARs keep the
   * addresses that they have here, and interrupts stay off until they are enabled here.
   */
  *loadRegisters(saved: Uint8Array): Task {
    yield* this.registersChange();
    this.config.loadWritable(saved);
    this.writeBarAddresses();
    yield* disableMsi(this, 'msi');
    yield* disableMsi(this, 'msix');
    yield* this.changePowerState(powerStateIn(this.config));
    yield* this.updateDecode();
  }

  /** Puts the addresses that the fabric assigned into the BARs: at the start, and after a reset that lost them. */
  writeBarAddresses(): void {
    for (const bar of this.bars) bar?.writeAddress(this.config);
  }

  /** pci_clear_master: the function cannot start DMA afterwards. */
  *clearBusMaster(): Task {
    yield* this.configWrite(PCI_COMMAND, 2, this.config.read(PCI_COMMAND, 2) & ~PCI_COMMAND_MASTER);
  }

  /** Reads host memory, guest memory or a peer by bus address; `into` is undefined unless 'ok'. */
  dmaRead(address: number, into: Uint8Array): Task<DmaStatus> {
    return this.plugged().dma(this, address, into, false);
  }

  /** Writes by bus address. A posted write without a taker is lost; only the returned status shows it. */
  dmaWrite(address: number, from: Uint8Array): Task<DmaStatus> {
    return this.plugged().dma(this, address, from, true);
  }

  /** dmaRead without a step, and copies as a read and a write: see Fabric.dmaNow, copyNow and copy. */
  dmaReadNow(address: number, into: Uint8Array): DmaStatus | null {
    return this.plugged().dmaNow(this, address, into, false);
  }

  /** dmaWrite without a step; null, with nothing done, where that is not possible. */
  dmaWriteNow(address: number, from: Uint8Array): DmaStatus | null {
    return this.plugged().dmaNow(this, address, from, true);
  }

  /** A copy without a step. Returns the number of bytes copied; 0 where that is not possible. */
  dmaCopyNow(source: number, destination: number, length: number): number {
    return this.plugged().copyNow(this, source, destination, length);
  }

  /** Copies by bus addresses, as a read and a write. */
  dmaCopy(source: number, destination: number, length: number): Task<CopyOutcome> {
    return this.plugged().copy(this, source, destination, length);
  }

  /**
   * A load into `bytes`, or a store of them, by the CPU through a mapping of a BAR. If no BAR answers, loads give ones
   * and stores are lost. The owner of such mappings must revoke them before the memory stops answering.
   */
  mmio(bar: Bar, offset: number, bytes: Uint8Array, isWrite: boolean): void {
    if (!this.memoryDecode.value) {
      this.fabric?.onStrayTlp({ requester: null, target: this, bar: bar.index, offset, isWrite });
      if (!isWrite) bytes.fill(0xff);
    } else if (isWrite) bar.target.write(offset, bytes);
    else bar.target.read(offset, bytes);
  }

  /** Whether COMMAND allows the function to start DMA. */
  get busMaster(): boolean {
    return (this.config.read(PCI_COMMAND, 2) & PCI_COMMAND_MASTER) !== 0;
  }

  /** Whether the function may start DMA. In other states than D0 it may only send PME (PCI PM 1.2, 5.4). */
  get mayStartDma(): boolean {
    return this.isInD0 && this.busMaster;
  }

  /**
   * For a device model that continues work which a reset may have ended. After this step the model sees all effects of
   * the reset, including its own state that `onReset` puts back.
   */
  registersLook(): Task<number> {
    return this.changes.load();
  }

  private registersChange(): Task<boolean> {
    return this.changes.update((count) => count + 1);
  }

  private plugged(): Fabric {
    if (this.fabric === null) throw new Error(`${this.name} is not plugged in`);
    return this.fabric;
  }

  private declareHeader(): void {
    const config = this.config;
    // A VF has only the bus master bit; the PF's VF MSE is its memory bit (SR-IOV 1.1, 3.4.1.3).
    config.allow(PCI_COMMAND, 2, this.isVirtfn ? PCI_COMMAND_MASTER : 0x0547);
    config.allow(PCI_STATUS, 2, 0, 0xf900);
    // With PCI_LATENCY_TIMER.
    config.allow(PCI_CACHE_LINE_SIZE, 2, 0xffff);
    config.allow(PCI_INTERRUPT_LINE, 1, 0xff);
    for (const bar of this.bars) bar?.declareRegister(config);
  }

  private *updateDecode(): Task {
    const command = this.isVirtfn ? PCI_COMMAND_MEMORY : this.config.read(PCI_COMMAND, 2);
    const decodes = (command & PCI_COMMAND_MEMORY) !== 0 && this.powerState.value === 0;
    if (decodes !== this.memoryDecode.value) yield* this.memoryDecode.store(decodes);
  }

  private *afterPowerWrite(pm: number): Task {
    const next = powerStateIn(this.config);
    const before = this.powerState.value;
    if (next === before) return;
    const keepsState = (this.config.read(pm + PCI_PM_CTRL, 2) & PCI_PM_CTRL_NO_SOFT_RESET) !== 0;
    if (before === 3 && next === 0 && !keepsState) {
      yield* this.hardwareReset();
      return;
    }
    yield* this.changePowerState(next);
    yield* this.updateDecode();
  }

  private *changePowerState(state: PciPowerState): Task {
    yield* this.powerState.store(state);
    this.isInD0 = state === 0;
  }
}
