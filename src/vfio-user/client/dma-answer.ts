/** A client's answers to the device's DMA: the server's DMA_READ and DMA_WRITE. */
import { ERRNO, Errno } from '../../abi/errno.ts';
import { viewOf } from '../../abi/layout.ts';
import {
  VFIO_USER_DMA_READ,
  VFIO_USER_DMA_WRITE,
  VFIO_USER_F_TYPE_REPLY,
  vfio_user_dma_region_access,
} from '../../abi/vfio-user.ts';
import { type Frame, LIMITS } from '../wire/frame.ts';
import type { Stream } from './stream.ts';

/** Client memory that devices reach by DMA_READ and DMA_WRITE. */
export interface ClientDmaMemory {
  read(address: number, into: Uint8Array): void;
  write(address: number, from: Uint8Array): void;
}

/** Answers one command of the server. EFAULT where `memory` is null. */
export function answerDma(stream: Stream, frame: Frame, memory: ClientDmaMemory | null): void {
  for (const fd of frame.fds) fd.close();
  let reply: Buffer;
  try {
    reply = accessMemory(frame, memory);
  } catch (error) {
    const code = error instanceof Errno ? -error.errno : ERRNO.EIO;
    stream.send(frame.id, frame.command, new Uint8Array(0), VFIO_USER_F_TYPE_REPLY, [], code);
    return;
  }
  stream.send(frame.id, frame.command, reply, VFIO_USER_F_TYPE_REPLY);
}

function accessMemory({ command, payload }: Frame, memory: ClientDmaMemory | null): Buffer {
  const head = vfio_user_dma_region_access.sizeof;
  const isRead = command === VFIO_USER_DMA_READ;
  if (!isRead && command !== VFIO_USER_DMA_WRITE) throw new Errno('ENOSYS', `command ${command}`);
  if (memory === null || payload.length < head) throw new Errno('EFAULT', 'no memory is shared by messages');
  const { addr, count } = vfio_user_dma_region_access.read(viewOf(payload));
  if (count > LIMITS.maxDataXferBytes || (!isRead && payload.length !== head + count)) {
    throw new Errno('EINVAL', `DMA of ${count} bytes in a message of ${payload.length}`);
  }
  if (!isRead) {
    memory.write(addr, payload.subarray(head));
    return Buffer.from(payload.subarray(0, head));
  }
  const reply = Buffer.concat([payload.subarray(0, head), Buffer.alloc(count)]);
  memory.read(addr, reply.subarray(head));
  return reply;
}
