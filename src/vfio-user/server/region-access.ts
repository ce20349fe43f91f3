/**
 * REGION_READ and REGION_WRITE without a task, and without needless allocations or copies. Nearly all messages are of
 * these two kinds.
 */
import {
  VFIO_USER_HEADER_SIZE,
  VFIO_USER_REGION_READ,
  VFIO_USER_REGION_WRITE,
  vfio_user_region_access,
} from '../../abi/vfio-user.ts';
import type { ReceivedFrame } from '../wire/frame.ts';
import type { Reply } from './reply.ts';
import type { RequestContext } from './request-context.ts';

const { sizeof, fields } = vfio_user_region_access;
const OFFSET_HIGH = fields.offset.offset + 4;

/**
 * Serves the request if it is one of the two, is well-formed, and can be done at once. Its reply is then in `reply`.
 * Otherwise returns false and does nothing; requests.ts serves or refuses it.
 */
export function regionAccessNow(context: RequestContext, frame: ReceivedFrame, reply: Reply): boolean {
  const isWrite = frame.command === VFIO_USER_REGION_WRITE;
  if ((!isWrite && frame.command !== VFIO_USER_REGION_READ) || frame.fds.length > 0) return false;
  const { view, start } = frame;
  const length = frame.end - start;
  if (length < sizeof || view.getUint32(start + OFFSET_HIGH, true) !== 0) return false;
  const count = fields.count.get(view, start);
  if (count > context.capabilities.maxDataXferBytes || (isWrite && length !== sizeof + count)) return false;
  const offset = view.getUint32(start, true);
  const region = fields.region.get(view, start);
  const bytes = isWrite ? frame.slice(sizeof, count) : reply.window(sizeof, count);
  if (!context.vdev.accessNow(region, offset, bytes, isWrite)) return false;
  const out = reply.message.view;
  fields.offset.set(out, VFIO_USER_HEADER_SIZE, offset);
  fields.region.set(out, VFIO_USER_HEADER_SIZE, region);
  fields.count.set(out, VFIO_USER_HEADER_SIZE, count);
  reply.payloadBytes = isWrite ? sizeof : sizeof + count;
  return true;
}
