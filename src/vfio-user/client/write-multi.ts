/** REGION_WRITE_MULTI on the client's side. */
import { viewOf } from '../../abi/layout.ts';
import {
  VFIO_USER_REGION_WRITE_MULTI,
  vfio_user_region_write_multi,
  vfio_user_write_one,
} from '../../abi/vfio-user.ts';
import { type ClientChannel, replyOf } from './channel.ts';

export interface RegionWrite {
  region: number;
  offset: number;
  bytes: Uint8Array;
}

/** Sends writes of at most 8 bytes each in one message. Returns how many were done before the first failure. */
export function writeBatch(channel: ClientChannel, writes: readonly RegionWrite[]): number {
  const { sizeof } = vfio_user_region_write_multi;
  const payload = vfio_user_region_write_multi.encode(
    { wr_cnt: writes.length },
    writes.length * vfio_user_write_one.sizeof,
  );
  for (const [i, { region, offset, bytes }] of writes.entries()) {
    const at = sizeof + i * vfio_user_write_one.sizeof;
    vfio_user_write_one.write(viewOf(payload), at, { offset, region, count: bytes.length });
    payload.set(bytes, at + vfio_user_write_one.fields.data.offset);
  }
  const answer = channel.call(VFIO_USER_REGION_WRITE_MULTI, payload);
  return vfio_user_region_write_multi.fields.wr_cnt.get(replyOf(answer.payload, vfio_user_region_write_multi));
}
