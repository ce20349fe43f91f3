/** DEVICE_GET_REGION_INFO on the client's side: a region's size and flags, and its mappable areas. */
import { Errno } from '../../abi/errno.ts';
import {
  VFIO_REGION_INFO_CAP_MSIX_MAPPABLE,
  VFIO_REGION_INFO_CAP_SPARSE_MMAP,
  VFIO_REGION_INFO_FLAG_CAPS,
  VFIO_REGION_INFO_FLAG_MMAP,
  vfio_region_info,
  vfio_region_info_cap_sparse_mmap,
  vfio_region_sparse_mmap_area,
} from '../../abi/vfio.ts';
import { VFIO_USER_DEVICE_GET_REGION_INFO } from '../../abi/vfio-user.ts';
import { closeAll, type OwnedFd } from '../../linux/fd.ts';
import { type InfoCapability, infoCapabilities } from '../../linux/vfio/caps.ts';
import { LIMITS } from '../wire/frame.ts';
import { type Answer, askWithRoom, type Exchange, type Request, replyOf } from './exchange.ts';

/** A part of a region that may be mapped (struct vfio_region_sparse_mmap_area). */
export interface MappableArea {
  /** Where it starts in the region, in bytes. */
  offset: number;
  /** Its length in bytes. */
  sizeBytes: number;
}

/** The file of a region that may be mapped. */
export interface RegionMap {
  /** The file; the caller closes it. */
  fd: OwnedFd;
  /** Where the region starts in the file, in bytes. */
  fdOffset: number;
  /** The parts that may be mapped, in order. */
  areas: MappableArea[];
}

/** The reply to DEVICE_GET_REGION_INFO (struct vfio_region_info). */
export interface ClientRegionInfo {
  /** The region, a VFIO_PCI_..._REGION_INDEX. */
  index: number;
  /** VFIO_REGION_INFO_FLAG_*. */
  flags: number;
  /** Bytes of the region; 0 where the device has none. */
  sizeBytes: number;
  /** The mappable areas and their descriptor; null where only messages reach the region. */
  map: RegionMap | null;
  /** Whether the MSI-X table may be mapped with the rest (VFIO_REGION_INFO_CAP_MSIX_MAPPABLE). */
  isMsixMappable: boolean;
}

/**
 * Asks for a region's info, and asks again with room for capabilities when the first reply announces them. The caller
 * closes `map.fd`. EPROTO for a reply that contradicts itself; its descriptors are closed.
 */
export function* regionInfo(index: number): Exchange<ClientRegionInfo> {
  const request = (argsz: number): Request => {
    const payload = vfio_region_info.encode({ argsz, index });
    return { command: VFIO_USER_DEVICE_GET_REGION_INFO, payload, takesFds: true };
  };
  const wanted = (payload: Buffer): number => {
    const argsz = vfio_region_info.fields.argsz.get(replyOf(payload, vfio_region_info));
    if (argsz > LIMITS.maxMessageBytes) throw broken(index, `wants ${argsz} bytes for its capabilities`);
    return argsz;
  };
  return yield* askWithRoom(request, vfio_region_info.sizeof, wanted, (answer) => decode(index, answer));
}

/** Takes the first descriptor, and closes the others. Takes none when it throws. */
function decode(index: number, { payload, fds }: Answer): ClientRegionInfo {
  const view = replyOf(payload, vfio_region_info);
  const { flags, size, offset, cap_offset } = vfio_region_info.read(view);
  const capabilities = (flags & VFIO_REGION_INFO_FLAG_CAPS) === 0 ? [] : capabilitiesOf(index, view, cap_offset);
  const sparse = capabilities.find(({ id }) => id === VFIO_REGION_INFO_CAP_SPARSE_MMAP);
  const areas = sparse === undefined ? [{ offset: 0, sizeBytes: size }] : areasOf(index, view, sparse, size);
  const isMsixMappable = capabilities.some(({ id }) => id === VFIO_REGION_INFO_CAP_MSIX_MAPPABLE);
  const [fd, ...others] = fds;
  closeAll(others);
  const info = { index, flags, sizeBytes: size, isMsixMappable };
  if (fd === undefined) return { ...info, map: null };
  if ((flags & VFIO_REGION_INFO_FLAG_MMAP) === 0) {
    fd.close();
    return { ...info, map: null };
  }
  return { ...info, map: { fd, fdOffset: offset, areas } };
}

/** Walks the chain of capabilities. A capability is behind the struct, and each is visited once. */
function capabilitiesOf(index: number, view: DataView, capOffset: number): InfoCapability[] {
  if (capOffset !== 0 && capOffset < vfio_region_info.sizeof) {
    throw broken(index, `puts its capabilities at ${capOffset}, inside struct vfio_region_info`);
  }
  return infoCapabilities(view, capOffset, view.byteLength);
}

function areasOf(index: number, view: DataView, { offset }: InfoCapability, regionBytes: number): MappableArea[] {
  const { sizeof, fields } = vfio_region_info_cap_sparse_mmap;
  const area = vfio_region_sparse_mmap_area;
  const room = view.byteLength - offset - sizeof;
  const count = room < 0 ? 0 : fields.nr_areas.get(view, offset);
  if (room < 0 || count * area.sizeof > room) throw broken(index, `has ${count} sparse areas in ${room} bytes`);
  return Array.from({ length: count }, (_, i) => {
    const at = area.read(view, offset + sizeof + i * area.sizeof);
    if (at.size > regionBytes - at.offset) {
      throw broken(index, `has a sparse area of ${at.size} bytes at ${at.offset} of ${regionBytes}`);
    }
    return { offset: at.offset, sizeBytes: at.size };
  });
}

function broken(index: number, what: string): Errno {
  return new Errno('EPROTO', `DEVICE_GET_REGION_INFO: region ${index} ${what}`);
}
