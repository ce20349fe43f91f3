/**
 * VFIO_DEVICE_FEATURE_DMA_BUF: slices of a device's memory BARs lent to peers, and taken back (vfio_pci_dmabuf.c).
 *
 * Two locks decide whether a buffer may be used. A task that switches the device's memory on or off holds memory_lock
 * for write; it also guards the list of buffers. A task that maps, unmaps or flips `revoked` holds the buffer's
 * reservation. memory_lock comes first.
 *
 * A buffer is listed from its export until its release or the device's cleanup unlists it. Never both: cleanup takes a
 * reference with `tryGet`, which fails once the release is bound to run.
 */

import { Errno } from '../abi/errno.ts';
import { O_ACCMODE, O_CLOEXEC, O_NONBLOCK } from '../abi/fcntl.ts';
import { PAGE_SIZE } from '../abi/mman.ts';
import { VFIO_DEVICE_FEATURE_DMA_BUF, VFIO_DEVICE_FEATURE_GET } from '../abi/vfio-feature.ts';
import { DmaBuf, type DmaBufAttachment, type DmaBufOps, type DmaDirection } from '../dma-buf/dma-buf.ts';
import { DMA_RESV_USAGE_BOOKKEEP } from '../dma-buf/resv.ts';
import { cutSegments, mapPhysVec, type PhysVec, SgTable, unmapPhysVec } from '../dma-buf/scatterlist.ts';
import type { Bar } from '../pci/bar.ts';
import type { PciFunction } from '../pci/function.ts';
import { Cell } from '../task/cell.ts';
import { Lifetime } from '../task/lifetime.ts';
import type { RwSemaphore } from '../task/lock.ts';
import { DONE, type Task } from '../task/op.ts';
import { Plain } from '../task/plain.ts';
import { Refcount } from '../task/refcount.ts';
import { checkFeature } from './check-feature.ts';
import type { Profile } from './profile.ts';
import type { Registration } from './registration.ts';
import type { Caller, UserMemory } from './user.ts';

/** memdup_array_user refuses more: KMALLOC_MAX_SIZE on x86-64, in entries of 16 bytes. */
const MAX_RANGES = 262144;
const U64_END = 1n << 64n;

/** struct vfio_region_dma_range. */
interface DmaRange {
  offset: bigint;
  length: bigint;
}

/** A range together with its region. */
export interface DmaArea extends DmaRange {
  regionIndex: number;
}

/** A device with buffers that may be taken back. */
export interface LendingDevice {
  readonly pdev: PciFunction;
  readonly profile: Profile;
  /** Guards `dmabufs` and each buffer's `vdev`; held for write during a revoke or restore. */
  readonly memoryLock: RwSemaphore;
  /** Every exported buffer, until its release or the device's cleanup. */
  readonly dmabufs: Plain<Set<VfioPciDmaBuf>>;
  /** Whether peers may use the memory now. */
  mayLend(): boolean;
}

/** A device that new buffers are made of. */
export interface ExportingDevice extends LendingDevice {
  readonly registration: Registration;
  /** The BAR of a region that buffers may be made of, I/O BARs included; null for other regions. */
  exportableBar(regionIndex: number): Bar | null;
}

/** The exporter's state of one buffer (struct vfio_pci_dma_buf). */
export class VfioPciDmaBuf {
  readonly physVec: readonly PhysVec[];
  readonly sizeBytes: number;
  /** The regions of its memory, one bit each. The ABI has only buffers of one region. */
  readonly regions: number;
  /** Null after the device's cleanup: the buffer must not touch the device any more. Guarded by memory_lock. */
  readonly vdev: Plain<ExportingDevice | null>;
  readonly lifetime = new Lifetime('vfio_pci_dma_buf');
  /** Written under memory_lock and reservation; attach reads it without either. */
  readonly revoked: Cell<boolean>;
  /**
   * One, and one more for each mapping. Taken under the reservation. At zero nothing is mapped, and a revoke goes on.
   */
  readonly kref: Refcount;
  dmabuf!: DmaBuf<VfioPciDmaBuf>;

  constructor(vdev: ExportingDevice, regions: number, physVec: readonly PhysVec[], sizeBytes: number) {
    this.vdev = new Plain<ExportingDevice | null>('vfio_pci_dma_buf.vdev', vdev);
    this.regions = regions;
    this.physVec = physVec;
    this.sizeBytes = sizeBytes;
    this.revoked = new Cell('vfio_pci_dma_buf.revoked', true, this.lifetime);
    this.kref = new Refcount('vfio_pci_dma_buf.kref', 1, this.lifetime);
  }

  get regionIndexes(): number[] {
    return [0, 1, 2, 3, 4, 5].filter((index) => (this.regions & (1 << index)) !== 0);
  }

  /** Takes the buffer back, or lends it again; does nothing if it is already so. memory_lock is held for write. */
  move(revoked: boolean, profile: Profile): Task {
    if (this.revoked.value === revoked) return DONE;
    return revoked ? this.revoke() : this.restore(profile.tellAfterRestore);
  }

  private *revoke(): Task {
    const resv = this.dmabuf.resv;
    yield* resv.lock.lock();
    yield* this.revoked.store(true);
    yield* this.dmabuf.invalidateMappings();
    yield* resv.wait(DMA_RESV_USAGE_BOOKKEEP);
    yield* resv.lock.unlock();
    // The reference that stands for "lent"; the last unmap wakes us.
    yield* this.kref.put();
    yield* this.kref.waitForZero();
    // No map can succeed while `revoked` is set, so no other task takes a reference meanwhile.
    yield* this.kref.set(1);
  }

  /**
   * The invalidate callback tells importers of a restore too. It runs after `revoked` is cleared, so importers may map
   * in it. The exporter need not wait: nothing could be mapped since the revoke.
   */
  private *restore(tellAfter: boolean): Task {
    const resv = this.dmabuf.resv;
    yield* resv.lock.lock();
    if (tellAfter) {
      yield* this.revoked.store(false);
      yield* this.dmabuf.invalidateMappings();
      yield* resv.lock.unlock();
      return;
    }
    yield* this.dmabuf.invalidateMappings();
    yield* resv.wait(DMA_RESV_USAGE_BOOKKEEP);
    yield* resv.lock.unlock();
    yield* resv.lock.lock();
    yield* this.revoked.store(false);
    yield* resv.lock.unlock();
  }
}

export const vfioPciDmaBufOps: DmaBufOps = {
  *attach(attachment: DmaBufAttachment): Task {
    const priv = attachment.dmabuf.priv as VfioPciDmaBuf;
    if (!attachment.peer2peer) {
      throw new Errno(
        'EOPNOTSUPP',
        `${attachment.importerName} cannot reach a peer's memory: it needs allow_peer2peer`,
      );
    }
    if (yield* priv.revoked.load()) throw new Errno('ENODEV', 'the buffer is revoked: its device lends nothing now');
    if (attachment.importerOps?.invalidateMappings === undefined) {
      throw new Errno(
        'EOPNOTSUPP',
        `${attachment.importerName} cannot be told to let go: it has no invalidate callback`,
      );
    }
  },

  *map(attachment: DmaBufAttachment, _direction: DmaDirection): Task<SgTable> {
    const priv = attachment.dmabuf.priv as VfioPciDmaBuf;
    if (yield* priv.revoked.load()) throw new Errno('ENODEV', 'the buffer is revoked: its device lends nothing now');
    const table = mapFor(attachment.dev, priv);
    yield* priv.kref.get();
    return table;
  },

  *unmap(attachment: DmaBufAttachment, table: SgTable, _direction: DmaDirection): Task {
    const priv = attachment.dmabuf.priv as VfioPciDmaBuf;
    unmapPhysVec(table);
    yield* priv.kref.put();
  },

  *release(dmabuf: DmaBuf): Task {
    const priv = dmabuf.priv as VfioPciDmaBuf;
    // Cleanup sets vdev to null only while it holds a reference, so vdev cannot change during a release.
    const vdev = priv.vdev.get();
    if (vdev !== null) {
      yield* vdev.memoryLock.write();
      vdev.dmabufs.change().delete(priv);
      yield* vdev.memoryLock.releaseWrite();
      yield* vdev.registration.put();
    }
    priv.lifetime.end();
  },
};

/** Maps for an importer. An importer without a device gets host addresses and must enforce access itself. */
function mapFor(importer: PciFunction | null, { vdev, physVec, sizeBytes }: VfioPciDmaBuf): SgTable {
  if (importer === null) return new SgTable(cutSegments(physVec), []);
  const { pdev, profile } = vdev.get()!;
  return mapPhysVec(importer, pdev, physVec, sizeBytes, { oneRangeByIova: !profile.mapsSeveralRanges });
}

/**
 * VFIO_DEVICE_FEATURE_DMA_BUF: returns the descriptor, installed in the caller's table. The checks are in Linux's
 * order.
 */
export function* featureDmaBuf(
  vdev: ExportingDevice,
  flags: number,
  arg: UserMemory,
  argsz: number,
  caller: Caller,
): Task<number> {
  if (!checkFeature(VFIO_DEVICE_FEATURE_DMA_BUF, flags, argsz, VFIO_DEVICE_FEATURE_GET, 16)) return 0;
  const head = view(arg.read(0, 16));
  const regionIndex = head.getUint32(0, true);
  const openFlags = head.getUint32(4, true);
  const rangeCount = head.getUint32(12, true);
  if (rangeCount === 0 || head.getUint32(8, true) !== 0) {
    throw new Errno('EINVAL', `DMA_BUF: nr_ranges ${rangeCount}, flags ${head.getUint32(8, true)}; wants some and 0`);
  }
  if (vdev.profile.checkOpenFlags) checkOpenFlags(openFlags);
  if (vdev.exportableBar(regionIndex) === null) {
    throw new Errno('ENODEV', `region ${regionIndex} of ${vdev.pdev.name} is no BAR that can be lent`);
  }
  if (rangeCount > MAX_RANGES) throw new Errno('ENOMEM', `nr_ranges ${rangeCount} is more than ${MAX_RANGES}`);
  const areas = readRanges(arg.read(16, rangeCount * 16), rangeCount).map((range) => ({ regionIndex, ...range }));
  return yield* exportChecked(vdev, openFlags, areas, caller);
}

/**
 * As the feature, for areas that each name their region, as in the first patches. The areas follow one another in the
 * buffer. The merged ABI cannot ask for areas of several regions. Errors as the feature's.
 */
export function* exportAreas(
  vdev: ExportingDevice,
  areas: readonly DmaArea[],
  openFlags: number,
  caller: Caller,
): Task<number> {
  if (areas.length === 0) throw new Errno('EINVAL', 'a dma-buf is made of one area at least');
  if (vdev.profile.checkOpenFlags) checkOpenFlags(openFlags);
  const absent = areas.find(({ regionIndex }) => vdev.exportableBar(regionIndex) === null);
  if (absent !== undefined) {
    throw new Errno('ENODEV', `region ${absent.regionIndex} of ${vdev.pdev.name} is no BAR that can be lent`);
  }
  if (areas.length > MAX_RANGES) throw new Errno('ENOMEM', `${areas.length} areas are more than ${MAX_RANGES}`);
  return yield* exportChecked(vdev, openFlags, areas, caller);
}

/** Exports a slice of a region, or all of it if offset and length are 0: the other form of the first patches. */
export function* exportSlice(
  vdev: ExportingDevice,
  { regionIndex, offset, length }: DmaArea,
  openFlags: number,
  caller: Caller,
): Task<number> {
  const isWhole = offset === 0n && length === 0n;
  const whole = BigInt(vdev.exportableBar(regionIndex)?.sizeBytes ?? 0);
  const area = { regionIndex, offset, length: isWhole ? whole : length };
  return yield* exportAreas(vdev, [area], openFlags, caller);
}

/** The rest of the feature, from the ranges on. */
function* exportChecked(
  vdev: ExportingDevice,
  openFlags: number,
  areas: readonly DmaArea[],
  caller: Caller,
): Task<number> {
  const regions = areas.reduce((bits, { regionIndex }) => bits | (1 << regionIndex), 0);
  const priv = new VfioPciDmaBuf(vdev, regions, ...physicalAreas(vdev, areas));
  if (!(yield* vdev.registration.tryGet())) {
    priv.lifetime.end();
    throw new Errno('ENODEV', `${vdev.pdev.name} is being unregistered`);
  }
  const dmabuf = new DmaBuf({
    expName: 'vfio_pci_core',
    ops: vfioPciDmaBufOps,
    sizeBytes: priv.sizeBytes,
    flags: openFlags & (O_ACCMODE | O_NONBLOCK),
    priv,
  });
  priv.dmabuf = dmabuf;
  // From here on only a put frees the buffer: it runs `release`, which undoes all of the above.
  yield* vdev.memoryLock.write();
  yield* dmabuf.resv.lock.lock();
  yield* priv.revoked.store(!vdev.mayLend());
  vdev.dmabufs.change().add(priv);
  yield* dmabuf.resv.lock.unlock();
  yield* vdev.memoryLock.releaseWrite();
  try {
    // Another thread of the user may close the descriptor at once: nothing may touch the buffer after this.
    return yield* caller.files.install(dmabuf);
  } catch (error) {
    yield* dmabuf.put();
    throw error;
  }
}

function checkOpenFlags(openFlags: number): void {
  const unknown = (openFlags & ~(O_ACCMODE | O_NONBLOCK | O_CLOEXEC)) >>> 0;
  if (unknown !== 0 || (openFlags & O_ACCMODE) === O_ACCMODE) {
    throw new Errno(
      'EINVAL',
      `open_flags 0x${openFlags.toString(16)}: an access mode, O_CLOEXEC and O_NONBLOCK are all that a dma-buf knows`,
    );
  }
}

function readRanges(bytes: Uint8Array, count: number): DmaRange[] {
  const data = view(bytes);
  const ranges: DmaRange[] = [];
  for (let i = 0; i < count; i++) {
    ranges.push({ offset: data.getBigUint64(i * 16, true), length: data.getBigUint64(i * 16 + 8, true) });
  }
  return ranges;
}

function view(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Checks the areas against each other and their BARs, in Linux's order. Returns host addresses and the size. */
function physicalAreas(vdev: ExportingDevice, areas: readonly DmaArea[]): [PhysVec[], number] {
  let total = 0n;
  for (const [i, { offset, length }] of areas.entries()) {
    if (length === 0n || offset % BigInt(PAGE_SIZE) !== 0n || length % BigInt(PAGE_SIZE) !== 0n) {
      throw new Errno('EINVAL', `range ${i}: offset 0x${offset.toString(16)}, length 0x${length.toString(16)}`);
    }
    total += length;
    if (total >= U64_END) throw new Errno('EINVAL', `the lengths overflow 64 bits at range ${i}`);
  }
  if (total >= U64_END / 2n) throw new Errno('EINVAL', `a dma-buf of 0x${total.toString(16)} bytes is too large`);
  return [areas.map((area, i) => physicalArea(vdev, area, i)), Number(total)];
}

function physicalArea(vdev: ExportingDevice, { regionIndex, offset, length }: DmaArea, i: number): PhysVec {
  const bar = vdev.exportableBar(regionIndex);
  if (bar === null || bar.kind === 'io') {
    throw new Errno('EINVAL', `region ${regionIndex} is I/O ports: peers reach memory only`);
  }
  if (BigInt(bar.address) + offset + length > U64_END) {
    throw new Errno('EOVERFLOW', `range ${i} ends past the address space`);
  }
  if (offset + length > BigInt(bar.sizeBytes)) {
    throw new Errno('EINVAL', `range ${i} ends past the ${bar.sizeBytes} bytes of region ${regionIndex}`);
  }
  return { address: bar.address + Number(offset), sizeBytes: Number(length) };
}

/**
 * vfio_pci_dma_buf_move: takes every buffer of the device back, or lends it again. memory_lock is held for write. A
 * revoke returns when no importer has a mapping and no fence is pending. Importers end that wait by unmapping, within
 * bounded time as dma-buf demands; owners of fences end it by signalling them.
 */
export function* dmaBufMove(vdev: LendingDevice, revoked: boolean): Task {
  vdev.memoryLock.assertHeldWrite();
  for (const priv of vdev.dmabufs.get()) {
    // A buffer whose last reference is gone has no importers; its release waits for memory_lock to unlist it.
    if (!(yield* priv.dmabuf.tryGet())) continue;
    yield* priv.move(revoked, vdev.profile);
    // The release takes memory_lock, which is held here: if this was the last reference, it runs as a separate task.
    yield* priv.dmabuf.putDeferred();
  }
}

/**
 * vfio_pci_dma_buf_cleanup: the device closes. Buffers that live on stay revoked and forget the device, so a later open
 * never revives them. Must run before the device is disabled: peers may write until it returns.
 */
export function* dmaBufCleanup(vdev: ExportingDevice): Task {
  yield* vdev.memoryLock.write();
  yield* dmaBufMove(vdev, true);
  for (const priv of [...vdev.dmabufs.get()]) {
    if (!(yield* priv.dmabuf.tryGet())) continue;
    vdev.dmabufs.change().delete(priv);
    priv.vdev.set(null);
    yield* vdev.registration.put();
    yield* priv.dmabuf.putDeferred();
  }
  yield* vdev.memoryLock.releaseWrite();
}
