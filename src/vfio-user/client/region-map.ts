/** A mapping of a region's memory, whose file belongs to the server. */
import { Errno } from '../../abi/errno.ts';
import { VFIO_REGION_INFO_FLAG_WRITE } from '../../abi/vfio.ts';
import { Mapping } from '../../linux/mapping.ts';
import { factsOf, isHugePageFile } from '../../linux/shared-files.ts';
import type { Exchange, Peer } from './exchange.ts';
import { type ClientRegionInfo, regionInfo } from './region-info.ts';

/**
 * Maps a slice of a region. EINVAL where the server shares no memory for it, and for a file that is too short or not
 * memory. A file that the server can still truncate is mapped guarded: an access to a lost page is EFAULT, not SIGBUS.
 */
export function* mapRegion(peer: Peer, index: number, offset: number, sizeBytes: number): Exchange<Mapping> {
  const info = yield* regionInfo(index);
  try {
    return mapSlice(`region ${index} of ${peer.path}`, info, offset, sizeBytes);
  } finally {
    info.map?.fd.close();
  }
}

function mapSlice(what: string, { flags, map }: ClientRegionInfo, offset: number, sizeBytes: number): Mapping {
  if (map === null) throw new Errno('EINVAL', `${what} cannot be mapped: only messages reach it`);
  const { fd, fdOffset, areas } = map;
  const isInside = areas.some((area) => area.offset <= offset && offset + sizeBytes <= area.offset + area.sizeBytes);
  if (!isInside) {
    const all = areas.map((area) => `${area.sizeBytes} at ${area.offset}`).join(', ') || 'none';
    throw new Errno('EINVAL', `${what}: ${sizeBytes} bytes at ${offset} cannot be mapped; mappable areas: ${all}`);
  }
  const writable = (flags & VFIO_REGION_INFO_FLAG_WRITE) !== 0;
  const { isSealed, sizeBytes: fileBytes } = factsOf(fd, writable);
  const start = fdOffset + offset;
  if (start + sizeBytes > fileBytes) {
    const range = `${sizeBytes} bytes at ${start} of its file`;
    throw new Errno('EINVAL', `${what}: ${range}, which has ${fileBytes}; the server shares less than it says`);
  }
  const guarded = !isSealed || isHugePageFile(fd);
  return Mapping.map({ fd: fd.fd, offset: start, sizeBytes, writable, what, guarded });
}
