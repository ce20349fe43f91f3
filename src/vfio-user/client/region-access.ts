/** REGION_READ and REGION_WRITE on the client's side, in as many messages as the server's limit demands. */
import { Errno } from '../../abi/errno.ts';
import { VFIO_USER_REGION_READ, VFIO_USER_REGION_WRITE, vfio_user_region_access } from '../../abi/vfio-user.ts';
import { type Exchange, mostDataBytes, type Peer, replyOf } from './exchange.ts';

const HEAD = vfio_user_region_access.sizeof;
const WORD = 8;

/**
 * Returns the bytes of one message: the server's limit, in whole words of 8 bytes. Where that is too little, it is the
 * largest power of two, so that an aligned register is not cut more often than it must be.
 */
function chunkBytes(peer: Peer): number {
  const most = mostDataBytes(peer);
  return most >= WORD ? most - (most % WORD) : 2 ** Math.floor(Math.log2(most));
}

/** Fills `into` from a region. */
export function* readRegion(peer: Peer, region: number, offset: number, into: Uint8Array): Exchange<void> {
  const most = chunkBytes(peer);
  for (let at = 0; at < into.length; ) {
    const count = Math.min(into.length - at, most);
    const payload = vfio_user_region_access.encode({ offset: offset + at, region, count });
    const answer = yield { command: VFIO_USER_REGION_READ, payload };
    const view = replyOf(answer.payload, vfio_user_region_access);
    const length = vfio_user_region_access.fields.count.get(view);
    if (length === 0 || length > count || answer.payload.length !== HEAD + length) {
      const came = `${length} of ${count} bytes in a reply of ${answer.payload.length}`;
      throw new Errno('EPROTO', `REGION_READ, ${peer.path}: ${came}`);
    }
    into.set(answer.payload.subarray(HEAD), at);
    at += length;
  }
}

/** Writes to a region. EIO where the server did only a part of a write; `isPosted` writes are not answered. */
export function* writeRegion(
  peer: Peer,
  region: number,
  offset: number,
  from: Uint8Array,
  isPosted = false,
): Exchange<void> {
  const most = chunkBytes(peer);
  for (let at = 0; at < from.length; at += most) {
    const part = from.subarray(at, at + most);
    const payload = vfio_user_region_access.encode({ offset: offset + at, region, count: part.length }, part.length);
    payload.set(part, HEAD);
    const answer = yield { command: VFIO_USER_REGION_WRITE, payload, isPosted };
    if (isPosted) continue;
    const count = vfio_user_region_access.fields.count.get(replyOf(answer.payload, vfio_user_region_access));
    if (count !== part.length) {
      const place = `0x${(offset + at).toString(16)} of region ${region}`;
      const code = count < part.length ? 'EIO' : 'EPROTO';
      throw new Errno(code, `REGION_WRITE, ${peer.path}: ${count} of ${part.length} bytes were written at ${place}`);
    }
  }
}
