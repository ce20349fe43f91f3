/**
 * VFIO_DEVICE_FEATURE_DMA_BUF: makes a dma-buf of slices of a device's memory BARs, after the checks that Linux makes,
 * in its order.
 */

import { Errno } from '../abi/errno.ts';
import { O_ACCMODE, O_CLOEXEC, O_NONBLOCK } from '../abi/fcntl.ts';
import { PAGE_SIZE } from '../abi/mman.ts';
import { VFIO_DEVICE_FEATURE_DMA_BUF, VFIO_DEVICE_FEATURE_GET } from '../abi/vfio-feature.ts';
import { DmaBuf } from '../dma-buf/dma-buf.ts';
import type { PhysVec } from '../dma-buf/scatterlist.ts';
import type { Bar } from '../pci/bar.ts';
import { mayLackMemory } from '../task/faults.ts';
import type { Task } from '../task/op.ts';
import { checkFeature } from './check-feature.ts';
import { type RegisteredDevice, VfioPciDmaBuf, vfioPciDmaBufOps } from './dmabuf.ts';
import { proposedDmaBufOps } from './dmabuf-proposed.ts';
import type { Caller, UserMemory } from './user.ts';

/** memdup_array_user refuses more: KMALLOC_MAX_SIZE on x86-64, in entries of 16 bytes. */
const MAX_RANGES = 262144;
const U64_END = 1n << 64n;

/** struct vfio_region_dma_range. */
interface DmaRange {
  /** Where the range starts in the region, in bytes. */
  offset: bigint;
  /** The length in bytes. */
  length: bigint;
}

/** A range together with its region. */
export interface DmaArea extends DmaRange {
  /** A VFIO_PCI_..._REGION_INDEX. */
  regionIndex: number;
}

/** A device that new buffers are made of. */
export interface ExportingDevice extends RegisteredDevice {
  /** The BAR of a region that buffers may be made of, I/O BARs included; null for other regions. */
  exportableBar(regionIndex: number): Bar | null;
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
  mayLackMemory('dma_ranges');
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
  mayLackMemory('vfio_pci_dma_buf');
  mayLackMemory('phys_vec');
  const priv = new VfioPciDmaBuf(vdev, regions, ...physicalAreas(vdev, areas));
  if (!(yield* vdev.registration.tryGet())) {
    priv.lifetime.end();
    throw new Errno('ENODEV', `${vdev.pdev.name} is being unregistered`);
  }
  const dmabuf = yield* makeDmaBuf(vdev, priv, openFlags);
  priv.dmabuf = dmabuf;
  // From here on only a put frees the buffer: it runs `release`, which undoes all of the above.
  yield* vdev.memoryLock.write();
  yield* dmabuf.resv.lock.lock();
  yield* priv.revoked.store(!vdev.mayLend());
  vdev.dmabufs.change().add(priv);
  priv.observer?.exported(priv, areas);
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

/** Makes the buffer. A failure drops the registration and the exporter's part. */
function* makeDmaBuf(vdev: ExportingDevice, priv: VfioPciDmaBuf, openFlags: number): Task<DmaBuf<VfioPciDmaBuf>> {
  try {
    mayLackMemory('dma_buf');
    return new DmaBuf({
      expName: 'vfio_pci_core',
      ops: vdev.profile.proposed === null ? vfioPciDmaBufOps : proposedDmaBufOps,
      sizeBytes: priv.sizeBytes,
      flags: openFlags & (O_ACCMODE | O_NONBLOCK),
      priv,
      releasesWithFile: vdev.profile.releasesWithFile,
    });
  } catch (error) {
    priv.lifetime.end();
    yield* vdev.registration.put();
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
