/** REGION_READ, REGION_WRITE and REGION_WRITE_MULTI, for the accesses that region-access.ts leaves. */
import { Errno } from '../../abi/errno.ts';
import { viewOf } from '../../abi/layout.ts';
import {
  VFIO_USER_HEADER_SIZE,
  VFIO_USER_MULTI_DATA,
  vfio_user_region_access,
  vfio_user_region_write_multi,
  vfio_user_write_one,
} from '../../abi/vfio-user.ts';
import type { Task } from '../../task/op.ts';
import { condResched } from '../../task/runner.ts';
import type { Frame } from '../wire/frame.ts';
import { checkTransfer, decode, type Reply } from './reply.ts';
import type { RequestContext } from './request-context.ts';

/** Writes of a WRITE_MULTI in a row before other clients have their turn. */
const WRITES_AT_ONCE = 256;

export function* regionRead(context: RequestContext, frame: Frame, reply: Reply): Task {
  const fields = vfio_user_region_access.fields;
  const view = decode(vfio_user_region_access, frame);
  const count = fields.count.get(view);
  checkTransfer('REGION_READ', count, context);
  const region = fields.region.get(view);
  const offset = fields.offset.get(view);
  const sizeof = vfio_user_region_access.sizeof;
  const out = reply.reserve(sizeof + count);
  out.set(frame.payload.subarray(0, sizeof));
  const length = yield* context.vdev.read(region, offset, out.subarray(sizeof));
  if (length < count) {
    fields.count.set(viewOf(out), 0, length);
    reply.payloadBytes -= count - length;
  }
}

export function* regionWrite(context: RequestContext, frame: Frame, reply: Reply): Task {
  const fields = vfio_user_region_access.fields;
  const view = decode(vfio_user_region_access, frame);
  const sizeof = vfio_user_region_access.sizeof;
  const count = fields.count.get(view);
  if (frame.payload.length !== sizeof + count) {
    throw new Errno('EINVAL', `REGION_WRITE of ${count} bytes brings ${frame.payload.length - sizeof}`);
  }
  checkTransfer('REGION_WRITE', count, context);
  // Do not use the request after the write: a write that waits may outlive it.
  reply.append(frame.payload.subarray(0, sizeof));
  const length = yield* context.vdev.write(
    fields.region.get(view),
    fields.offset.get(view),
    frame.payload.subarray(sizeof),
  );
  if (length < count) fields.count.set(reply.message.view, VFIO_USER_HEADER_SIZE, length);
}

/** Does writes of at most 8 bytes each, in order. The first failure ends it, and the reply counts the writes before. */
export function* regionWriteMulti(context: RequestContext, frame: Frame, reply: Reply): Task {
  const { vdev, capabilities } = context;
  if (!capabilities.writeMultiple) throw new Errno('EOPNOTSUPP', 'WRITE_MULTI was not agreed on in VERSION');
  const view = decode(vfio_user_region_write_multi, frame);
  const count = vfio_user_region_write_multi.fields.wr_cnt.get(view);
  const head = vfio_user_region_write_multi.sizeof;
  if (frame.payload.length !== head + count * vfio_user_write_one.sizeof) {
    throw new Errno('EINVAL', `WRITE_MULTI of ${count} writes in ${frame.payload.length} bytes`);
  }
  const fields = vfio_user_write_one.fields;
  let written = 0;
  try {
    for (; written < count; written++) {
      const at = head + written * vfio_user_write_one.sizeof;
      const length = fields.count.get(view, at);
      if (length > VFIO_USER_MULTI_DATA) throw new Errno('EINVAL', `WRITE_MULTI: write ${written} of ${length} bytes`);
      checkTransfer('WRITE_MULTI', length, context);
      const data = frame.payload.subarray(at + fields.data.offset, at + fields.data.offset + length);
      yield* vdev.write(fields.region.get(view, at), fields.offset.get(view, at), data);
      // A message may hold tens of thousands of writes, so other clients have their turn in between.
      if (written % WRITES_AT_ONCE === WRITES_AT_ONCE - 1) yield* condResched();
    }
  } catch (error) {
    if (written === 0 || !(error instanceof Errno)) throw error;
  }
  reply.append(vfio_user_region_write_multi.encode({ wr_cnt: written }));
}
