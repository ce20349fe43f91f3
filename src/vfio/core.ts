/**
 * A PCI device in the hands of one user: the part that vfio-pci adds to the function itself (vfio_pci_core.c). Files of
 * drivers/vfio/pci have counterparts of the same name here; this file holds the state that they share.
 *
 * Lock order, outermost first: device-set lock, memory_lock, reservation (docs/architecture.md, "Lock order").
 */
import { Errno } from '../abi/errno.ts';
import { PCI_COMMAND, PCI_COMMAND_MEMORY, PCI_EXT_CAP_ID_SRIOV } from '../abi/pci_regs.ts';
import { VFIO_PCI_ROM_REGION_INDEX } from '../abi/vfio.ts';
import type { Bar } from '../pci/bar.ts';
import type { PciFunction } from '../pci/function.ts';
import type { PciPowerState } from '../pci/power-state.ts';
import { type ResetMethod, resetFunction, resetMethods } from '../pci/reset.ts';
import { InvariantError } from '../task/lifetime.ts';
import { type LockClass, RwSemaphore } from '../task/lock.ts';
import type { Task } from '../task/op.ts';
import { Plain } from '../task/plain.ts';
import type { BufferObserver } from './buffer-observer.ts';
import { VfioConfig } from './config.ts';
import { DeviceSet } from './device-set.ts';
import { dmaBufCleanup, type VfioPciDmaBuf, type ZappedMapping } from './dmabuf.ts';
import { deviceFeature } from './feature.ts';
import { Interrupts } from './intrs.ts';
import { Migration } from './migration.ts';
import { isMigratable } from './migration-stream.ts';
import { BarMapping } from './mmap.ts';
import { busError, type PowerWrittenOutside, sysfsConfigWrite, sysfsReset, sysfsResetSubordinate } from './outside.ts';
import {
  LowPower,
  leaveLowPower,
  lowPowerEntry,
  lowPowerExit,
  PCI_D0,
  PCI_D3HOT,
  type PowerWrite,
  setPowerState,
} from './pm.ts';
import { PROFILES, type Profile } from './profile.ts';
import { accessNow, readRegion, writeRegion } from './rdwr.ts';
import { Registration } from './registration.ts';
import { functionLevelReset, hotReset, resetDevice, withVirtfnsRevoked } from './reset.ts';
import { VfToken, validateVfToken } from './token.ts';
import type { Caller, EventSignal, UserMemory } from './user.ts';

const MEMORY_LOCK_CLASS: LockClass = { name: 'vfio_pci_core_device.memory_lock', nestable: true };

/** Options of a device under vfio-pci. */
export interface VfioPciCoreOptions {
  /** The behaviour where Linux is laxer. Default: `PROFILES.default`. */
  profile?: Profile;
  /** Devices that share a reset share a set; by default the device is alone in one. */
  deviceSet?: DeviceSet<VfioPciCoreDevice>;
  /** For a VF: its PF, if vfio-pci drives the PF too. */
  physfn?: VfioPciCoreDevice;
}

/** A PCI function that vfio-pci drives for a user (struct vfio_pci_core_device). */
export class VfioPciCoreDevice {
  /** The function itself. */
  readonly pdev: PciFunction;
  /** The behaviour where Linux is laxer. */
  readonly profile: Profile;
  /** The devices that reset together with this one. */
  readonly deviceSet: DeviceSet<VfioPciCoreDevice>;
  /** What keeps the device from being unregistered: opens and buffers. */
  readonly registration = new Registration();
  /**
   * A task that switches the memory BARs on or off holds it for write, from before the revoke until after the restore.
   * A task that relies on them holds it for read. Guards `dmabufs`, `mappings`, `lowPower` and each buffer's `vdev`.
   */
  readonly memoryLock = new RwSemaphore(MEMORY_LOCK_CLASS);
  /** Every exported buffer, until its release or the device's cleanup. */
  readonly dmabufs = new Plain('vfio_pci_core_device.dmabufs', new Set<VfioPciDmaBuf>());
  /** Null while nobody watches. A server sets it before the first export. */
  bufferObserver: BufferObserver<VfioPciDmaBuf> | null = null;
  /** The mappings of the BARs and of buffers; all of them are zapped before memory goes off. */
  readonly mappings = new Set<ZappedMapping>();
  /** Whether the user put the device into low power. */
  readonly lowPower = new LowPower();
  /** The eventfds that the user set, by interrupt index. */
  readonly interrupts: Interrupts;
  /** Null where the state behind some BAR cannot be read out, or the profile has no migration. */
  readonly migration: Migration | null;
  /** A PF's token; null for all others. */
  readonly vfToken: VfToken | null;
  /** Guarded by the device-set lock. */
  openCount = 0;
  /** For a VF: its PF, if vfio-pci drives the PF too. */
  readonly physfn: VfioPciCoreDevice | null;
  /** For a PF: those of its VFs that vfio-pci drives too. */
  readonly virtfns: VfioPciCoreDevice[] = [];
  /** The last write of root that passed the driver. Null without one, and where the profile lets none pass. */
  powerWritten: PowerWrittenOutside | null = null;
  private configOfOpen: VfioConfig | null = null;

  constructor(pdev: PciFunction, options: VfioPciCoreOptions = {}) {
    this.pdev = pdev;
    this.profile = options.profile ?? PROFILES.default;
    this.deviceSet = options.deviceSet ?? new DeviceSet<VfioPciCoreDevice>();
    this.deviceSet.devices.push(this);
    this.physfn = options.physfn ?? null;
    this.physfn?.virtfns.push(this);
    this.vfToken = pdev.config.findExt(PCI_EXT_CAP_ID_SRIOV) === 0 || pdev.isVirtfn ? null : new VfToken();
    this.interrupts = new Interrupts(pdev, this.profile);
    this.migration = this.profile.migrates && isMigratable(pdev) ? new Migration(this) : null;
  }

  /** The user's view of config space. Only an open device has one. */
  get config(): VfioConfig {
    if (this.configOfOpen === null) throw new Errno('ENODEV', `${this.pdev.name} is not open`);
    return this.configOfOpen;
  }

  /** Whether a user has it open. */
  get isOpen(): boolean {
    return this.openCount > 0;
  }

  /**
   * vfio_df_open: the first open claims the BARs, brings the device to D0 and resets it. EACCES or EINVAL for a wrong
   * VF token; ENODEV when the device is being unregistered.
   */
  *open(vfToken: Uint8Array | null = null): Task {
    if (!(yield* this.registration.tryGet())) throw new Errno('ENODEV', `${this.pdev.name} is being unregistered`);
    try {
      yield* this.deviceSet.lock.lock();
      try {
        validateVfToken(this, this.physfn, vfToken);
        if (this.openCount === 0) yield* this.enable();
        this.openCount += 1;
      } finally {
        yield* this.deviceSet.lock.unlock();
      }
    } catch (error) {
      yield* this.registration.put();
      throw error;
    }
  }

  /** vfio_df_close: the last close takes every buffer back before the device is disabled. */
  *close(): Task {
    yield* this.deviceSet.lock.lock();
    if (this.openCount === 0) throw new InvariantError('I3', `${this.pdev.name} is closed more often than opened`);
    this.openCount -= 1;
    if (this.openCount === 0) {
      yield* dmaBufCleanup(this);
      yield* this.disable();
    }
    yield* this.deviceSet.lock.unlock();
    yield* this.registration.put();
  }

  /**
   * The driver lets go of the device. Asks the user by the REQ interrupt to close it, and waits until every user has
   * closed it and every buffer has dropped its registration. Only the closes can end this wait, since revoked buffers
   * hold no registration.
   */
  *unregister(): Task {
    yield* this.registration.unregister(() => this.interrupts.requestDevice());
  }

  /** Whether the memory BARs may be used: a power state that decodes, and the memory bit as the user sees it. */
  memoryEnabled(): boolean {
    if (!this.decodesIn(this.knownPowerState())) return false;
    // A VF has no memory bit of its own (SR-IOV 1.1, 3.4.1.3).
    const isOn = this.pdev.isVirtfn || (this.config.virtualWord(PCI_COMMAND) & PCI_COMMAND_MEMORY) !== 0;
    // The user's view does not show what was written from outside.
    return isOn && (this.pdev.memoryDecode.value || !this.profile.outsideRevokes);
  }

  /** The power state that the driver goes by. */
  knownPowerState(): PciPowerState {
    const { value } = this.pdev.powerState;
    const written = this.powerWritten;
    const counts = written !== null && written.real === value && written.powerSets === this.pdev.powerSets;
    return counts ? written.known : value;
  }

  /** Whether peers may use the memory. Unlike the user's accesses, theirs do not wake a sleeping device. */
  mayLend(): boolean {
    const asleep = this.lowPower.engaged.value && this.profile.lowPowerDisablesMemory;
    return !asleep && this.memoryEnabled();
  }

  /** Whether the memory BARs may answer in a power state. */
  decodesIn(state: PciPowerState): boolean {
    return this.profile.revokeInD1D2 ? state === PCI_D0 : state < PCI_D3HOT;
  }

  /**
   * The BAR of a region that dma-bufs may be made of, I/O BARs included; null if it is absent or not claimed by vfio.
   */
  exportableBar(regionIndex: number): Bar | null {
    if (regionIndex >= VFIO_PCI_ROM_REGION_INDEX) return null;
    const bar = this.pdev.bars[regionIndex] ?? null;
    return bar?.claimed === true ? bar : null;
  }

  /**
   * Whether a user may map the BAR: memory with bytes behind it. A BAR smaller than a page shares its page with no
   * other.
   */
  isMappable(bar: Bar): boolean {
    return bar.kind !== 'io' && bar.target.memory !== null;
  }

  /** unmap_mapping_range: the next access through each mapping faults. memory_lock is held for write. */
  *zapMappings(): Task {
    this.memoryLock.assertHeldWrite();
    for (const mapping of [...this.mappings]) yield* mapping.zap();
  }

  /** read(2) on a region; returns the bytes read. EINVAL outside of it, EIO where memory is off. */
  read(regionIndex: number, offset: number, into: Uint8Array): Task<number> {
    return readRegion(this, regionIndex, offset, into);
  }

  /** Does a read or write that cannot wait or fail a check. Returns false, with nothing done, for all others. */
  accessNow(regionIndex: number, offset: number, bytes: Uint8Array, isWrite: boolean): boolean {
    return accessNow(this, regionIndex, offset, bytes, isWrite);
  }

  /** write(2) on a region; returns the bytes written. Errors as `read`. */
  write(regionIndex: number, offset: number, from: Uint8Array): Task<number> {
    return writeRegion(this, regionIndex, offset, from);
  }

  /** mmap(2) of a slice of a BAR, in bytes from its start. EINVAL where the region cannot be mapped. */
  mmap(regionIndex: number, offset: number, sizeBytes: number): BarMapping {
    return new BarMapping(this, regionIndex, offset, sizeBytes);
  }

  /** VFIO_DEVICE_SET_IRQS; `data` as linux/vfio.h says for the flags. */
  setIrqs(flags: number, index: number, start: number, count: number, data: Uint8Array, caller: Caller): Task {
    return this.interrupts.setIrqs(flags, index, start, count, data, caller);
  }

  /** VFIO_DEVICE_RESET. EINVAL where the device has no way to reset. */
  reset(): Task {
    return resetDevice(this);
  }

  /** FLR through config space. */
  functionLevelReset(): Task {
    return functionLevelReset(this, 'FLR');
  }

  /**
   * VFIO_DEVICE_PCI_HOT_RESET; `owned` are the groups that the caller has proved to own. EINVAL and EBUSY as in
   * reset.ts.
   */
  hotReset(owned: readonly number[]): Task {
    return hotReset(this, owned);
  }

  /** Root resets the function through sysfs. Errors as in outside.ts, here and in the next two. */
  sysfsReset(method?: ResetMethod): Task {
    return sysfsReset(this, method);
  }

  /** Root resets the bus through sysfs of the port above. */
  sysfsResetSubordinate(): Task {
    return sysfsResetSubordinate(this);
  }

  /** Root writes the registers through sysfs, past `config`. */
  sysfsConfigWrite(offset: number, size: 1 | 2 | 4, value: number): Task {
    return sysfsConfigWrite(this, offset, size, value);
  }

  /** An error of PCI Express. After a fatal one the kernel resets the link, and restores no registers. */
  busError(fatal: boolean): Task {
    return busError(this, fatal);
  }

  /** The user's write of PMCSR. */
  setPowerState(write: PowerWrite): Task {
    return setPowerState(this, write);
  }

  /** LOW_POWER_ENTRY, or LOW_POWER_ENTRY_WITH_WAKEUP if there is an event. EINVAL when the device already sleeps. */
  enterLowPower(wakeEvent: EventSignal | null): Task {
    return lowPowerEntry(this, wakeEvent);
  }

  /** LOW_POWER_EXIT; does nothing when the device is awake. */
  exitLowPower(): Task {
    return lowPowerExit(this);
  }

  /** VFIO_DEVICE_FEATURE on an argument that starts with its header; returns 0 or a descriptor. */
  feature(arg: UserMemory, caller: Caller): Task<number> {
    return deviceFeature(this, arg, caller);
  }

  private *enable(): Task {
    const pdev = this.pdev;
    yield* pdev.setPowerState(PCI_D0);
    const token = this.physfn?.vfToken;
    if (resetMethods(pdev).length > 0) yield* withVirtfnsRevoked(this, 'reset', () => resetFunction(pdev));
    yield* pdev.configWrite(PCI_COMMAND, 2, pdev.configRead(PCI_COMMAND, 2) | PCI_COMMAND_MEMORY | 1);
    for (const bar of pdev.bars) if (bar !== null) bar.claimed = true;
    this.configOfOpen = new VfioConfig(this);
    if (token !== null && token !== undefined && pdev.isVirtfn) token.users += 1;
  }

  private *disable(): Task {
    const pdev = this.pdev;
    pdev.dmaLog = null;
    yield* this.interrupts.disableAll();
    yield* this.memoryLock.write();
    yield* leaveLowPower(this);
    yield* pdev.setPowerState(PCI_D0);
    yield* pdev.clearBusMaster();
    if (resetMethods(pdev).length > 0) yield* withVirtfnsRevoked(this, 'reset', () => resetFunction(pdev));
    for (const bar of pdev.bars) if (bar !== null) bar.claimed = false;
    this.configOfOpen = null;
    yield* this.memoryLock.releaseWrite();
    // The migration is reset last: a quiesced device must resume only when it has no work left.
    if (this.migration !== null) yield* this.migration.reset();
    const token = this.physfn?.vfToken;
    if (token !== null && token !== undefined && pdev.isVirtfn) token.users -= 1;
  }
}
