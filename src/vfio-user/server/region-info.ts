/** GET_REGION_INFO: a region's size and flags, the areas that a client may map, and their descriptor. */
import { PAGE_SIZE } from '../../abi/mman.ts';
import {
  VFIO_PCI_VGA_REGION_INDEX,
  VFIO_REGION_INFO_CAP_MSIX_MAPPABLE,
  VFIO_REGION_INFO_CAP_SPARSE_MMAP,
  VFIO_REGION_INFO_FLAG_CAPS,
  VFIO_REGION_INFO_FLAG_MMAP,
  vfio_info_cap_header,
  vfio_region_info,
  vfio_region_info_cap_sparse_mmap,
  vfio_region_sparse_mmap_area,
} from '../../abi/vfio.ts';
import type { Task } from '../../task/op.ts';
import type { VfioPciCoreDevice } from '../../vfio/core.ts';
import { msixTablePages, type RegionInfo, regionInfo } from '../../vfio/regions.ts';
import type { Frame } from '../wire/frame.ts';
import { decodeSized, type Reply } from './reply.ts';
import type { RequestContext } from './request-context.ts';

/**
 * The descriptor comes with the full reply. A reply without room for the capabilities names its full size and shows
 * none, as on Linux; the client asks again. An area's mmap offset is the region's offset plus the area's.
 */
export function* getRegionInfo(context: RequestContext, frame: Frame, reply: Reply): Task {
  const { vdev, capabilities } = context;
  const fields = vfio_region_info.fields;
  const view = decodeSized(vfio_region_info, frame);
  const index = fields.index.get(view);
  const info = infoOf(vdev, index);
  const memory = vdev.pdev.bars[index]?.target.memory ?? null;
  const canSend = memory?.fd !== undefined && capabilities.maxMsgFds > 0 && info.sizeBytes >= PAGE_SIZE;
  const areas =
    canSend && (info.flags & VFIO_REGION_INFO_FLAG_MMAP) !== 0 ? mappableAreas(vdev, index, info.sizeBytes) : [];
  const mappable = areas.length > 0;
  const chain = mappable && info.msixMappable ? capabilityChain(areas) : NOTHING;
  const sizeof = vfio_region_info.sizeof;
  const argsz = sizeof + chain.length;
  const fits = argsz <= fields.argsz.get(view);
  const hasCaps = fits && chain.length > 0;
  reply.append(
    vfio_region_info.encode({
      argsz,
      flags:
        (info.flags & ~VFIO_REGION_INFO_FLAG_MMAP) |
        (mappable ? VFIO_REGION_INFO_FLAG_MMAP : 0) |
        (hasCaps ? VFIO_REGION_INFO_FLAG_CAPS : 0),
      index,
      cap_offset: hasCaps ? sizeof : 0,
      size: info.sizeBytes,
      offset: mappable ? (memory!.fdOffset ?? 0) : 0,
    }),
  );
  if (!fits) return;
  reply.append(chain);
  if (!mappable) return;
  context.share(memory!);
  reply.fds.push(memory!.fd!);
}

const NOTHING = Buffer.alloc(0);

/** Linux refuses the index of an absent region. rust-vmm's client asks for all, and needs more than an errno. */
function infoOf(vdev: VfioPciCoreDevice, index: number): RegionInfo {
  if (index !== VFIO_PCI_VGA_REGION_INDEX) return regionInfo(vdev, index);
  return { index, flags: 0, sizeBytes: 0, offset: 0, msixMappable: false };
}

/** Returns the whole BAR, or the areas around the pages of the MSI-X table, which SET_IRQS reaches. */
function mappableAreas(vdev: VfioPciCoreDevice, index: number, sizeBytes: number): { offset: number; size: number }[] {
  const table = msixTablePages(vdev);
  if (table === null || table.barIndex !== index) return [{ offset: 0, size: sizeBytes }];
  const end = table.offset + table.sizeBytes;
  return [
    { offset: 0, size: table.offset },
    { offset: end, size: Math.max(0, sizeBytes - end) },
  ].filter((area) => area.size > 0);
}

/**
 * For a BAR with the MSI-X table: the areas around it, then MSIX_MAPPABLE. A client then takes the areas as they are,
 * and cuts no more out of them.
 */
function capabilityChain(areas: readonly { offset: number; size: number }[]): Buffer {
  const sparseBytes = vfio_region_info_cap_sparse_mmap.sizeof + areas.length * vfio_region_sparse_mmap_area.sizeof;
  const sparse = vfio_region_info_cap_sparse_mmap.encode({
    header_id: VFIO_REGION_INFO_CAP_SPARSE_MMAP,
    header_version: 1,
    header_next: vfio_region_info.sizeof + sparseBytes,
    nr_areas: areas.length,
  });
  const mappable = vfio_info_cap_header.encode({ id: VFIO_REGION_INFO_CAP_MSIX_MAPPABLE, version: 1, next: 0 });
  return Buffer.concat([sparse, ...areas.map((area) => vfio_region_sparse_mmap_area.encode(area)), mappable]);
}
