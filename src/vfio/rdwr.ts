/** read(2) and write(2) on a device's regions (vfio_pci_rdwr.c). */
import { Errno } from '../abi/errno.ts';
import { VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_ROM_REGION_INDEX } from '../abi/vfio.ts';
import type { Bar, Doorbell } from '../pci/bar.ts';
import { done, type Task } from '../task/op.ts';
import type { MsixTable } from './irqs/msix-table.ts';
import { resume, type SleepingDevice } from './pm.ts';

/** A device whose regions its user reads and writes. */
export interface AccessedDevice extends SleepingDevice {
  readonly isOpen: boolean;
  readonly config: {
    read(offset: number, into: Uint8Array): Task<number>;
    write(offset: number, from: Uint8Array): Task<number>;
  };
  readonly interrupts: { readonly msixTable: MsixTable | null };
  memoryEnabled(): boolean;
}

/** An access resumes a sleeping device for its duration (pm_runtime_resume_and_get), here and in `writeRegion`. */
export function* readRegion(vdev: AccessedDevice, index: number, offset: number, into: Uint8Array): Task<number> {
  yield* resume(vdev);
  return yield* readAwake(vdev, index, offset, into);
}

export function* writeRegion(vdev: AccessedDevice, index: number, offset: number, from: Uint8Array): Task<number> {
  yield* resume(vdev);
  return yield* writeAwake(vdev, index, offset, from);
}

/**
 * Does an access to plain bytes of a BAR if it need not wait. Lock, access and unlock would then be one step, so no
 * other task can tell that the lock is skipped. Returns false, with nothing done, if `readRegion` or `writeRegion` must
 * do or refuse it. Servers try this first, since it serves most requests.
 */
export function accessNow(
  vdev: AccessedDevice,
  index: number,
  offset: number,
  bytes: Uint8Array,
  isWrite: boolean,
): boolean {
  const bar = index < VFIO_PCI_ROM_REGION_INDEX ? vdev.pdev.bars[index] : null;
  if (bar === null || bar === undefined || bar.kind === 'io' || offset + bytes.length > bar.sizeBytes) return false;
  const { memoryLock } = vdev;
  if (!memoryLock.readsUnnoticed) return false;
  if (vdev.lowPower.engaged.value || !vdev.memoryEnabled() || !vdev.pdev.memoryDecode.value) return false;
  if (vdev.interrupts.msixTable?.barIndex === index) return false;
  if (isWrite) bar.target.write(offset, bytes);
  else bar.target.read(offset, bytes);
  return true;
}

/**
 * Rings a doorbell for its ioeventfd (vfio_pci_ioeventfd). The write is posted, so it is silently lost where memory is
 * off.
 */
export function* ringDoorbell(vdev: AccessedDevice, doorbell: Doorbell): Task {
  yield* resume(vdev);
  yield* vdev.memoryLock.read();
  if (vdev.isOpen && vdev.memoryEnabled()) doorbell.ring();
  yield* vdev.memoryLock.releaseRead();
}

function readAwake(vdev: AccessedDevice, index: number, offset: number, into: Uint8Array): Task<number> {
  if (index === VFIO_PCI_CONFIG_REGION_INDEX) return vdev.config.read(offset, into);
  if (index === VFIO_PCI_ROM_REGION_INDEX) return done(readRom(vdev, offset, into));
  const bar = barOf(vdev, index, offset);
  return accessBar(vdev, bar, offset, Math.min(into.length, bar.sizeBytes - offset), (at, length) => {
    const part = into.subarray(at - offset, at - offset + length);
    if (isMsixTable(vdev, index, at)) part.fill(0xff);
    else accessTarget(vdev, bar, at, part, false);
  });
}

function writeAwake(vdev: AccessedDevice, index: number, offset: number, from: Uint8Array): Task<number> {
  if (index === VFIO_PCI_CONFIG_REGION_INDEX) return vdev.config.write(offset, from);
  if (index === VFIO_PCI_ROM_REGION_INDEX) throw new Errno('EINVAL', `the ROM of ${vdev.pdev.name} is read-only`);
  const bar = barOf(vdev, index, offset);
  return accessBar(vdev, bar, offset, Math.min(from.length, bar.sizeBytes - offset), (at, length) => {
    if (isMsixTable(vdev, index, at)) return;
    accessTarget(vdev, bar, at, from.subarray(at - offset, at - offset + length), true);
  });
}

/** Memory is on for the user. If it was switched off from outside, no BAR answers. */
function accessTarget(vdev: AccessedDevice, bar: Bar, at: number, bytes: Uint8Array, isWrite: boolean): void {
  if (bar.kind !== 'io') vdev.pdev.mmio(bar, at, bytes, isWrite);
  else if (isWrite) bar.target.write(at, bytes);
  else bar.target.read(at, bytes);
}

function barOf(vdev: AccessedDevice, index: number, offset: number): Bar {
  const bar = index >= 0 && index < VFIO_PCI_ROM_REGION_INDEX ? (vdev.pdev.bars[index] ?? null) : null;
  if (bar === null) throw new Errno('EINVAL', `${vdev.pdev.name} has no region ${index}`);
  if (offset < 0 || offset >= bar.sizeBytes) {
    throw new Errno('EINVAL', `offset ${offset} is outside of the ${bar.sizeBytes} bytes of region ${index}`);
  }
  return bar;
}

/** Accesses a BAR: EIO where memory does not answer. Memory cannot be switched off during the access. */
function* accessBar(
  vdev: AccessedDevice,
  bar: Bar,
  offset: number,
  length: number,
  access: (at: number, length: number) => void,
): Task<number> {
  const isMemory = bar.kind !== 'io';
  if (isMemory) yield* vdev.memoryLock.read();
  try {
    if (isMemory && !vdev.memoryEnabled()) throw new Errno('EIO', `memory of ${vdev.pdev.name} is off`);
    const table = vdev.interrupts.msixTable;
    if (table === null || vdev.pdev.bars[table.barIndex] !== bar) access(offset, length);
    else splitAtTable(table, offset, length, access);
  } finally {
    if (isMemory) yield* vdev.memoryLock.releaseRead();
  }
  return length;
}

/** Runs `access` on the parts before, in and behind the MSI-X table, which users reach only by SET_IRQS. */
function splitAtTable(
  table: MsixTable,
  offset: number,
  length: number,
  access: (at: number, length: number) => void,
): void {
  const end = offset + length;
  const cuts = [offset, table.offset, table.offset + table.sizeBytes, end].map((at) => clamp(at, offset, end));
  for (let i = 0; i + 1 < cuts.length; i++) if (cuts[i + 1] > cuts[i]) access(cuts[i], cuts[i + 1] - cuts[i]);
}

function isMsixTable(vdev: AccessedDevice, index: number, at: number): boolean {
  const table = vdev.interrupts.msixTable;
  return table !== null && table.barIndex === index && at >= table.offset && at < table.offset + table.sizeBytes;
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(Math.max(value, low), high);
}

function readRom(vdev: AccessedDevice, offset: number, into: Uint8Array): number {
  const size = vdev.pdev.romSizeBytes;
  if (offset < 0 || offset >= size)
    throw new Errno('EINVAL', `offset ${offset} is outside of the ${size} bytes of ROM`);
  const length = Math.min(into.length, size - offset);
  // An empty ROM reads as ones.
  into.subarray(0, length).fill(0xff);
  return length;
}
