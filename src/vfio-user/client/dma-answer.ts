/** A client's answers to the device's DMA: the server's DMA_READ and DMA_WRITE. */
import { ERRNO, Errno } from '../../abi/errno.ts';
import { viewOf } from '../../abi/layout.ts';
import { VFIO_USER_DMA_READ, VFIO_USER_DMA_WRITE, vfio_user_dma_region_access } from '../../abi/vfio-user.ts';
import { closeAll } from '../../linux/fd.ts';
import { type Frame, LIMITS } from '../wire/frame.ts';

/** Client memory that devices reach by DMA_READ and DMA_WRITE. */
export interface ClientDmaMemory {
  /** An address above 2^53 is EOVERFLOW to the device, and does not come here. */
  read(address: number, into: Uint8Array): void;
  /** Stores bytes of the device. An Errno that it throws is the reply. The same holds for `read`. */
  write(address: number, from: Uint8Array): void;
}

/** A reply to the server; `error` is a positive errno. */
export interface DmaReply {
  payload: Uint8Array;
  error: number;
}

/**
 * Does what one command of the server asks. EFAULT where `memory` is null. Returns null for a command that wants no
 * reply.
 */
export function answerDma(frame: Frame, memory: ClientDmaMemory | null): DmaReply | null {
  closeAll(frame.fds);
  let reply: DmaReply;
  try {
    reply = { payload: accessMemory(frame, memory), error: 0 };
  } catch (error) {
    reply = { payload: NOTHING, error: error instanceof Errno ? -error.errno : ERRNO.EIO };
  }
  return frame.noReply ? null : reply;
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

const NOTHING = new Uint8Array(0);
