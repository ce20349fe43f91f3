/** The right answers of a device, to which a lying server adds its lies. */
import { ftruncateSync } from 'node:fs';
import { ERRNO } from '../../src/abi/errno.ts';
import { viewOf } from '../../src/abi/layout.ts';
import {
  vfio_irq_info,
  vfio_pci_dependent_device,
  vfio_pci_hot_reset_info,
  vfio_region_info,
} from '../../src/abi/vfio.ts';
import {
  VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT,
  VFIO_DEVICE_FEATURE_GET,
  VFIO_DEVICE_FEATURE_MASK,
  VFIO_DEVICE_FEATURE_PROBE,
} from '../../src/abi/vfio-feature.ts';
import * as abi from '../../src/abi/vfio-user.ts';
import { createEventfd } from '../../src/linux/eventfd.ts';
import type { OwnedFd } from '../../src/linux/fd.ts';
import { createMemfd } from '../../src/linux/memfd.ts';
import { socketPair } from '../../src/linux/socket.ts';
import type { FuzzRandom } from './random.ts';

export interface Truth {
  payload: Buffer;
  fds: number[];
  error?: number;
}

export const REGION_BYTES = 65536;
const LIMITS = [0, 1, 3, 8, 13, 100, 65536, 2 ** 20, 2 ** 40];
const NO_CAPABILITIES = Buffer.from('\0\0\0\0{"capabilities":{}}\0');

export class HonestDevice {
  /** Region 0, as messages reach it. */
  readonly memory = Buffer.alloc(REGION_BYTES, 0x5a);
  /** Whether this session's limits are odd, so that refusals are right. */
  isOdd = false;
  private readonly event = createEventfd('doorbell');
  private readonly memfd = createMemfd('lying-bar', 8192);
  private readonly twins = socketPair('lying twin');

  close(): void {
    for (const fd of [this.event, this.memfd, ...this.twins]) fd.close();
  }

  /** Does what a command says, and returns the right reply; a bad request gets an empty one. */
  answer(command: number, payload: Buffer, random: FuzzRandom, file: OwnedFd): Truth {
    try {
      return this.reply(command, payload, random, file);
    } catch (error) {
      if (error instanceof RangeError) return { payload: Buffer.alloc(0), fds: [], error: ERRNO.EINVAL };
      throw error;
    }
  }

  private reply(command: number, payload: Buffer, random: FuzzRandom, file: OwnedFd): Truth {
    const fds: number[] = [];
    const plain = (bytes: Buffer): Truth => ({ payload: bytes, fds });
    switch (command) {
      case abi.VFIO_USER_VERSION:
        return this.version(payload, random);
      case abi.VFIO_USER_DEVICE_GET_INFO:
        return plain(abi.vfio_user_device_info.encode({ argsz: 16, flags: 3, num_regions: 9, num_irqs: 5 }));
      case abi.VFIO_USER_DEVICE_GET_REGION_INFO:
        return this.region(payload, random, file);
      case abi.VFIO_USER_DEVICE_GET_IRQ_INFO:
        return plain(vfio_irq_info.encode({ argsz: 16, flags: 9, index: payload.readUInt32LE(8), count: 8 }));
      case abi.VFIO_USER_DEVICE_GET_REGION_IO_FDS:
        return this.doorbells(payload);
      case abi.VFIO_USER_REGION_READ: {
        const { offset, count } = abi.vfio_user_region_access.read(viewOf(payload));
        return plain(Buffer.concat([payload.subarray(0, 16), this.memory.subarray(offset, offset + count)]));
      }
      case abi.VFIO_USER_REGION_WRITE: {
        const { offset } = abi.vfio_user_region_access.read(viewOf(payload));
        this.memory.set(payload.subarray(16), offset);
        return plain(payload.subarray(0, 16));
      }
      case abi.VFIO_USER_REGION_WRITE_MULTI:
        return plain(this.writeAll(payload));
      case abi.VFIO_USER_DMA_UNMAP:
        return plain(payload.subarray(0, 24));
      case abi.VFIO_USER_DEVICE_FEATURE:
        return plain(featureReply(payload));
      case abi.VFIO_USER_MIG_DATA_READ: {
        const length = Math.min(payload.readUInt32LE(4), random.chance(3) ? 0 : random.below(3000));
        return plain(
          Buffer.concat([abi.vfio_user_mig_data.encode({ argsz: 8 + length, size: length }), Buffer.alloc(length)]),
        );
      }
      case abi.VFIO_USER_X_GET_PCI_HOT_RESET_INFO:
        return plain(
          Buffer.concat([
            vfio_pci_hot_reset_info.encode({ argsz: 20, count: 1 }),
            vfio_pci_dependent_device.encode({}),
          ]),
        );
      default:
        return plain(Buffer.alloc(0));
    }
  }

  private version(payload: Buffer, random: FuzzRandom): Truth {
    this.isOdd = random.chance(3);
    if (!this.isOdd) return { payload: abiVersion({ max_msg_fds: 16, write_multiple: true }), fds: [] };
    if (random.chance(8)) return { payload: NO_CAPABILITIES, fds: [] };
    const wantsTwin = payload.includes('twin_socket') && random.chance(2);
    const capabilities = {
      max_msg_fds: random.below(20),
      max_data_xfer_size: random.pick(LIMITS),
      max_dma_maps: random.pick(LIMITS),
      pgsizes: random.pick([4096, 8192, 2 ** 21, 4096 | (2 ** 21), 512]),
      write_multiple: random.chance(2),
      ...(wantsTwin ? { twin_socket: { supported: true, fd_index: random.below(2) } } : {}),
    };
    return { payload: abiVersion(capabilities), fds: wantsTwin ? [this.twins[1].fd] : [] };
  }

  /** Region 0 has a file that may shrink and two sparse areas, 2 a memfd; 7 is config space. */
  private region(payload: Buffer, random: FuzzRandom, file: OwnedFd): Truth {
    const { argsz, index } = vfio_region_info.read(viewOf(payload));
    if (index === 0) {
      if (random.chance(20)) ftruncateSync(file.fd, random.pick([0, 4096, 100, REGION_BYTES]));
      const capability = Buffer.alloc(48);
      capability.set([1, 0, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0]);
      for (const [i, value] of [0, 16384, 32768, 32768].entries())
        capability.writeBigUInt64LE(BigInt(value), 16 + 8 * i);
      const isFull = argsz >= 80;
      const head = vfio_region_info.encode({
        argsz: 80,
        flags: isFull ? 15 : 7,
        cap_offset: isFull ? 32 : 0,
        size: REGION_BYTES,
      });
      return { payload: isFull ? Buffer.concat([head, capability]) : head, fds: [file.fd] };
    }
    const size = index === 2 ? 8192 : index === 7 ? 256 : 0;
    const flags = index === 2 ? 7 : size === 0 ? 0 : 3;
    return {
      payload: vfio_region_info.encode({ argsz: 32, flags, index, size }),
      fds: index === 2 ? [this.memfd.fd] : [],
    };
  }

  private doorbells(payload: Buffer): Truth {
    const { argsz, index } = abi.vfio_user_region_io_fds.read(viewOf(payload));
    const head = abi.vfio_user_region_io_fds.encode({ argsz: 56, index, count: 1 });
    if (argsz < 56) return { payload: head, fds: [] };
    const place = abi.vfio_user_sub_region_ioeventfd.encode({ offset: 0, size: 4 });
    return { payload: Buffer.concat([head, place]), fds: [this.event.fd] };
  }

  private writeAll(payload: Buffer): Buffer {
    const { sizeof, fields } = abi.vfio_user_write_one;
    for (let at = 8; at + sizeof <= payload.length; at += sizeof) {
      const { offset, count } = abi.vfio_user_write_one.read(viewOf(payload), at);
      const data = at + fields.data.offset;
      this.memory.set(payload.subarray(data, data + count), offset);
    }
    return payload.subarray(0, 8);
  }
}

function abiVersion(capabilities: object): Buffer {
  return Buffer.from(`\0\0\0\0${JSON.stringify({ capabilities })}\0`);
}

function featureReply(payload: Buffer): Buffer {
  const [argsz, flags] = [payload.readUInt32LE(0), payload.readUInt32LE(4)];
  if ((flags & VFIO_DEVICE_FEATURE_PROBE) !== 0 || (flags & VFIO_DEVICE_FEATURE_GET) === 0) return payload;
  const feature = flags & VFIO_DEVICE_FEATURE_MASK;
  const more = feature === VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT ? Math.min(argsz - payload.length, 4096) : 0;
  return Buffer.concat([payload, Buffer.alloc(Math.max(0, more))]);
}
