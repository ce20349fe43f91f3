import { Errno } from '../../abi/errno.ts';
import { vfio_info_cap_header } from '../../abi/vfio.ts';

/** One entry of the chain of capabilities after an info struct (struct vfio_info_cap_header). */
export interface InfoCapability {
  id: number;
  version: number;
  /** The offset of the header from the start of the info struct. */
  offset: number;
}

/**
 * Walks the chain that starts at `capOffset` (0: none). EPROTO when it leaves the struct or runs in a circle. A kernel
 * never does that, but a server on a socket may.
 */
export function infoCapabilities(view: DataView, capOffset: number, sizeBytes: number): InfoCapability[] {
  const found: InfoCapability[] = [];
  const seen = new Set<number>();
  for (let offset = capOffset; offset !== 0; ) {
    if (offset + vfio_info_cap_header.sizeof > sizeBytes || seen.has(offset)) {
      throw new Errno(
        'EPROTO',
        `capability chain leads to ${offset} of ${sizeBytes} bytes${seen.has(offset) ? ' again' : ''}`,
      );
    }
    seen.add(offset);
    const header = vfio_info_cap_header.read(view, offset);
    found.push({ id: header.id, version: header.version, offset });
    offset = header.next;
  }
  return found;
}
