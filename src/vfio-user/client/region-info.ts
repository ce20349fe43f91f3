/** GET_REGION_INFO on the client's side: a region's size and flags, and its mappable areas. */
import { viewOf } from '../../abi/layout.ts';
import { VFIO_REGION_INFO_CAP_SPARSE_MMAP, VFIO_REGION_INFO_FLAG_CAPS, vfio_region_info } from '../../abi/vfio.ts';
import { VFIO_USER_DEVICE_GET_REGION_INFO } from '../../abi/vfio-user.ts';
import type { OwnedFd } from '../../linux/fd.ts';
import { infoCapabilities } from '../../linux/vfio/caps.ts';
import { LIMITS } from '../wire/frame.ts';
import { type Answer, type ClientChannel, replyOf } from './channel.ts';

export interface ClientRegionInfo {
  index: number;
  flags: number;
  sizeBytes: number;
  /** The mappable areas and their descriptor; null where only messages reach the region. */
  map: { fd: OwnedFd; fdOffset: number; areas: { offset: number; sizeBytes: number }[] } | null;
}

/** Asks for a region's info, and asks again with room for capabilities when the first reply announces them. */
export function regionInfoOf(channel: ClientChannel, index: number): ClientRegionInfo {
  let answer = ask(channel, index, vfio_region_info.sizeof);
  const wanted = vfio_region_info.fields.argsz.get(viewOf(answer.payload));
  if (wanted > vfio_region_info.sizeof && wanted <= LIMITS.maxMessageBytes) {
    for (const fd of answer.fds) fd.close();
    answer = ask(channel, index, wanted);
  }
  const view = viewOf(answer.payload);
  const { flags, size, offset, cap_offset } = vfio_region_info.read(view);
  const [fd, ...others] = answer.fds;
  for (const other of others) other.close();
  if (fd === undefined) return { index, flags, sizeBytes: size, map: null };
  const areas = (flags & VFIO_REGION_INFO_FLAG_CAPS) === 0 ? null : sparseAreas(view, cap_offset);
  const map = { fd, fdOffset: offset, areas: areas ?? [{ offset: 0, sizeBytes: size }] };
  return { index, flags, sizeBytes: size, map };
}

function ask(channel: ClientChannel, index: number, argsz: number): Answer {
  const answer = channel.call(VFIO_USER_DEVICE_GET_REGION_INFO, vfio_region_info.encode({ argsz, index }));
  replyOf(answer.payload, vfio_region_info);
  return answer;
}

function sparseAreas(view: DataView, capOffset: number): { offset: number; sizeBytes: number }[] | null {
  for (const capability of infoCapabilities(view, capOffset, view.byteLength)) {
    if (capability.id !== VFIO_REGION_INFO_CAP_SPARSE_MMAP) continue;
    const count = view.getUint32(capability.offset + 8, true);
    return Array.from({ length: count }, (_, i) => ({
      offset: Number(view.getBigUint64(capability.offset + 16 + 16 * i, true)),
      sizeBytes: Number(view.getBigUint64(capability.offset + 24 + 16 * i, true)),
    }));
  }
  return null;
}
