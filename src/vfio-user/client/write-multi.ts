/** REGION_WRITE_MULTI on the client's side. */
import { Errno } from '../../abi/errno.ts';
import { viewOf } from '../../abi/layout.ts';
import {
  VFIO_USER_MULTI_DATA,
  VFIO_USER_MULTI_MAX,
  VFIO_USER_REGION_WRITE_MULTI,
  vfio_user_region_write_multi,
  vfio_user_write_one,
} from '../../abi/vfio-user.ts';
import { ask, type Exchange, type Peer, RefusedError, replyOf } from './exchange.ts';
import { writeRegion } from './region-access.ts';

/** One write of REGION_WRITE_MULTI. */
export interface RegionWrite {
  /** The region, a VFIO_PCI_..._REGION_INDEX. */
  region: number;
  /** Where it goes in the region, in bytes. */
  offset: number;
  /** At most 8. */
  bytes: Uint8Array;
}

/**
 * Does writes of at most 8 bytes each, in order, many in a message. Returns how many were done before the first that
 * the server refused. Sends them one by one where the server lacks WRITE_MULTI.
 */
export function* writeRegions(peer: Peer, writes: readonly RegionWrite[]): Exchange<number> {
  const tooLong = writes.find(({ bytes }) => bytes.length > VFIO_USER_MULTI_DATA);
  if (tooLong !== undefined) throw new Errno('EINVAL', `WRITE_MULTI: a write of ${tooLong.bytes.length} bytes`);
  const most = peer.capabilities.writeMultiple ? VFIO_USER_MULTI_MAX : 1;
  let done = 0;
  while (done < writes.length) {
    const batch = writes.slice(done, done + most);
    const count = yield* most === 1 ? writeOne(peer, batch[0]) : writeBatch(peer, batch);
    done += count;
    if (count < batch.length) break;
  }
  return done;
}

function* writeBatch(peer: Peer, writes: readonly RegionWrite[]): Exchange<number> {
  const { sizeof, fields } = vfio_user_region_write_multi;
  const extra = writes.length * vfio_user_write_one.sizeof;
  const payload = vfio_user_region_write_multi.encode({ wr_cnt: writes.length }, extra);
  for (const [i, { region, offset, bytes }] of writes.entries()) {
    const at = sizeof + i * vfio_user_write_one.sizeof;
    vfio_user_write_one.write(viewOf(payload), at, { offset, region, count: bytes.length });
    payload.set(bytes, at + vfio_user_write_one.fields.data.offset);
  }
  const reply = yield* ask(VFIO_USER_REGION_WRITE_MULTI, payload);
  const count = fields.wr_cnt.getBig(replyOf(reply, vfio_user_region_write_multi));
  if (count > BigInt(writes.length)) {
    throw new Errno('EPROTO', `REGION_WRITE_MULTI, ${peer.path}: ${count} of ${writes.length} writes are done`);
  }
  return Number(count);
}

/** Only a refusal counts as a write that was not done: after a lost connection nobody knows. */
function* writeOne(peer: Peer, { region, offset, bytes }: RegionWrite): Exchange<number> {
  try {
    yield* writeRegion(peer, region, offset, bytes);
    return 1;
  } catch (error) {
    if (!(error instanceof RefusedError)) throw error;
    return 0;
  }
}
