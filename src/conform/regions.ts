/** What a client may map of a region. */
import { fstatSync } from 'node:fs';
import { MAP_SHARED, PROT_READ } from '../abi/mman.ts';
import {
  VFIO_REGION_INFO_CAP_SPARSE_MMAP,
  vfio_region_info_cap_sparse_mmap,
  vfio_region_sparse_mmap_area,
} from '../abi/vfio.ts';
import { VFIO_USER_DEVICE_GET_REGION_INFO } from '../abi/vfio-user.ts';
import { check, sys } from '../linux/ffi.ts';
import type { RegionFacts } from './facts.ts';
import type { RawPeer } from './peer.ts';
import * as request from './requests.ts';
import { broken, demand } from './verdict.ts';

export interface Area {
  offset: number;
  size: number;
}

/** The sparse areas of a region, as far as they lie in the reply; the whole region where it has none. */
export function areasOf({ reply, capabilities, size }: RegionFacts): Area[] {
  const sparse = capabilities.find(({ id }) => id === VFIO_REGION_INFO_CAP_SPARSE_MMAP);
  if (sparse === undefined || reply === null) return [{ offset: 0, size }];
  const view = new DataView(reply.buffer, reply.byteOffset, reply.length);
  const count = view.getUint32(sparse.at + vfio_region_info_cap_sparse_mmap.fields.nr_areas.offset, true);
  const first = sparse.at + vfio_region_info_cap_sparse_mmap.sizeof;
  const areas: Area[] = [];
  for (let i = 0; i < count; i++) {
    const at = first + i * vfio_region_sparse_mmap_area.sizeof;
    if (at + vfio_region_sparse_mmap_area.sizeof > reply.length) break;
    areas.push({
      offset: Number(vfio_region_sparse_mmap_area.fields.offset.getBig(view, at)),
      size: Number(vfio_region_sparse_mmap_area.fields.size.getBig(view, at)),
    });
  }
  return areas;
}

/** The reach of a region's areas. */
export interface MappedEnd {
  /** The file offset behind the last area. */
  end: number;
  /** The file's size; null where the descriptor is not a file with a size. */
  fileBytes: number | null;
}

/** Maps each area of a region read-only as QEMU does, and unmaps it untouched. Broken where mmap refuses. */
export function tryMapping(peer: RawPeer, region: RegionFacts): MappedEnd {
  const { fds } = peer.ok(
    VFIO_USER_DEVICE_GET_REGION_INFO,
    request.regionInfo(region.index, Math.max(4096, region.argsz)),
  );
  demand(fds.length > 0, `region ${region.index} came without a descriptor`);
  const { fd } = fds[0];
  let end = 0;
  for (const { offset, size } of areasOf(region)) {
    if (size === 0) continue;
    const address = sys.mmap(0, size, PROT_READ, MAP_SHARED, fd, region.offset + offset);
    if (address < 0) broken(`mmap of region ${region.index} at 0x${offset.toString(16)} fails with errno ${-address}`);
    check(sys.munmap(address, size), () => 'munmap');
    end = Math.max(end, region.offset + offset + size);
  }
  const { size } = fstatSync(fd);
  return { end, fileBytes: size > 0 ? size : null };
}
