/** The device that the kit shows to clients: a memory card with MSI-X, which answers every command rightly. */
import { ERRNO } from '../../abi/errno.ts';
import { PCI_COMMAND } from '../../abi/pci_regs.ts';
import {
  VFIO_DEVICE_FLAGS_PCI,
  VFIO_DEVICE_FLAGS_RESET,
  VFIO_IRQ_INFO_AUTOMASKED,
  VFIO_IRQ_INFO_EVENTFD,
  VFIO_IRQ_INFO_MASKABLE,
  VFIO_IRQ_INFO_NORESIZE,
  VFIO_PCI_CONFIG_REGION_INDEX,
  VFIO_PCI_INTX_IRQ_INDEX,
  VFIO_PCI_MSIX_IRQ_INDEX,
  VFIO_PCI_NUM_IRQS,
  VFIO_PCI_NUM_REGIONS,
  VFIO_REGION_INFO_FLAG_CAPS,
  VFIO_REGION_INFO_FLAG_MMAP,
  VFIO_REGION_INFO_FLAG_READ,
  VFIO_REGION_INFO_FLAG_WRITE,
  vfio_irq_info,
  vfio_region_info,
} from '../../abi/vfio.ts';
import {
  VFIO_USER_DEVICE_GET_INFO,
  VFIO_USER_DEVICE_GET_IRQ_INFO,
  VFIO_USER_DEVICE_GET_REGION_INFO,
  VFIO_USER_DEVICE_RESET,
  VFIO_USER_DEVICE_SET_IRQS,
  VFIO_USER_DMA_MAP,
  VFIO_USER_DMA_UNMAP,
  VFIO_USER_REGION_READ,
  VFIO_USER_REGION_WRITE,
  VFIO_USER_VERSION,
  vfio_user_device_info,
  vfio_user_region_access,
} from '../../abi/vfio-user.ts';
import type { OwnedFd } from '../../linux/fd.ts';
import { createMemfd } from '../../linux/memfd.ts';
import type { Incoming } from '../peer.ts';

const CONFIG_BYTES = 256;
export const BAR_BYTES = 0x10000;
export const READ_WRITE = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
const MSIX_AT = 0x40;
const VECTORS = 4;

export interface ShownRegion {
  size: number;
  flags: number;
  offset: number;
  /** Capabilities, each whole, with its own `next`. */
  capabilities: Buffer;
  /** How many descriptors come along. */
  fds: number;
}

export interface ShownIrq {
  flags: number;
  count: number;
}

/** A reply, right until a deviation changes it. */
export interface RightReply {
  command: number;
  id: number;
  errno: number;
  payload: Buffer;
  fds: readonly number[];
}

/** Each field may be changed by a deviation before the client connects. */
export class ShownDevice {
  readonly memory: OwnedFd = createMemfd('conform', BAR_BYTES);
  /** The JSON of VERSION's reply, and its numbers. */
  json = JSON.stringify({ capabilities: { max_msg_fds: 8, max_data_xfer_size: 1048576, pgsizes: 4096 } });
  major = 0;
  minor = 0;
  flags = VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET;
  numRegions = VFIO_PCI_NUM_REGIONS;
  numIrqs = VFIO_PCI_NUM_IRQS;
  readonly regions: ShownRegion[] = Array.from({ length: VFIO_PCI_NUM_REGIONS }, nothing);
  readonly irqs: ShownIrq[] = Array.from({ length: VFIO_PCI_NUM_IRQS }, () => ({ flags: 0, count: 0 }));
  readonly config = configSpace();
  /** The errno with which each command is refused. */
  readonly refused = new Map<number, number>();
  /** The command register is 0 again after each write. */
  forgetsCommand = false;
  private readonly bar = Buffer.alloc(BAR_BYTES);

  constructor() {
    this.regions[0] = { ...nothing(), size: BAR_BYTES, flags: READ_WRITE | VFIO_REGION_INFO_FLAG_MMAP, fds: 1 };
    this.regions[2] = { ...nothing(), size: 0x1000, flags: READ_WRITE };
    this.regions[VFIO_PCI_CONFIG_REGION_INDEX] = { ...nothing(), size: CONFIG_BYTES, flags: READ_WRITE };
    const intx = VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED;
    this.irqs[VFIO_PCI_INTX_IRQ_INDEX] = { flags: intx, count: 1 };
    this.irqs[VFIO_PCI_MSIX_IRQ_INDEX] = { flags: VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE, count: VECTORS };
  }

  answer(message: Incoming): RightReply {
    const { command, id } = message;
    const errno = this.refused.get(command) ?? 0;
    const reply: RightReply = { command, id, errno, payload: Buffer.alloc(0), fds: [] };
    if (errno !== 0) return reply;
    const found = this.payloadOrErrno(message);
    return typeof found === 'number' ? { ...reply, errno: found } : { ...reply, ...found };
  }

  /** EINVAL for a command that ends before a field of its struct. */
  private payloadOrErrno(message: Incoming): number | { payload: Buffer; fds?: number[] } {
    try {
      return this.payloadFor(message);
    } catch (error) {
      if (error instanceof RangeError) return ERRNO.EINVAL;
      throw error;
    }
  }

  private payloadFor(message: Incoming): number | { payload: Buffer; fds?: number[] } {
    const { command, view, payload } = message;
    switch (command) {
      case VFIO_USER_VERSION:
        return { payload: this.version() };
      case VFIO_USER_DEVICE_GET_INFO: {
        const { flags, numRegions, numIrqs } = this;
        const fields = { argsz: vfio_user_device_info.sizeof, flags, num_regions: numRegions, num_irqs: numIrqs };
        return { payload: vfio_user_device_info.encode(fields) };
      }
      case VFIO_USER_DEVICE_GET_REGION_INFO:
        return this.regionInfo(view.getUint32(8, true), view.getUint32(0, true));
      case VFIO_USER_DEVICE_GET_IRQ_INFO: {
        const index = view.getUint32(8, true);
        const irq = this.irqs[index];
        if (irq === undefined) return ERRNO.EINVAL;
        return { payload: vfio_irq_info.encode({ argsz: vfio_irq_info.sizeof, index, ...irq }) };
      }
      case VFIO_USER_REGION_READ:
      case VFIO_USER_REGION_WRITE:
        return this.access(message);
      case VFIO_USER_DMA_UNMAP:
        return { payload: Buffer.from(payload.subarray(0, 24)) };
      case VFIO_USER_DMA_MAP:
      case VFIO_USER_DEVICE_SET_IRQS:
      case VFIO_USER_DEVICE_RESET:
        return { payload: Buffer.alloc(0) };
      default:
        return ERRNO.ENOTTY;
    }
  }

  private version(): Buffer {
    const head = Buffer.alloc(4);
    head.writeUInt16LE(this.major, 0);
    head.writeUInt16LE(this.minor, 2);
    return this.json === '' ? head : Buffer.concat([head, Buffer.from(`${this.json}\0`)]);
  }

  private regionInfo(index: number, room: number): number | { payload: Buffer; fds?: number[] } {
    const region = this.regions[index];
    if (region === undefined) return ERRNO.EINVAL;
    const { size, offset, capabilities } = region;
    const has = capabilities.length > 0;
    const argsz = vfio_region_info.sizeof + capabilities.length;
    const flags = region.flags | (has ? VFIO_REGION_INFO_FLAG_CAPS : 0);
    const cap_offset = has ? vfio_region_info.sizeof : 0;
    const head = vfio_region_info.encode({ argsz, flags, index, cap_offset, size, offset });
    const fits = room >= argsz;
    const fds = Array.from({ length: fits ? region.fds : 0 }, () => this.memory.fd);
    return { payload: fits ? Buffer.concat([head, capabilities]) : head, fds };
  }

  private access({ command, view, payload }: Incoming): number | { payload: Buffer } {
    const { fields } = vfio_user_region_access;
    // A wrong client may name any 64 bits, and `read` throws above 2^53.
    const at = Number(fields.offset.getBig(view));
    const [region, count] = [fields.region.get(view), fields.count.get(view)];
    const bytes = region === VFIO_PCI_CONFIG_REGION_INDEX ? this.config : this.bar;
    const size = this.regions[region]?.size ?? 0;
    if (at + count > size) return ERRNO.EINVAL;
    const head = payload.subarray(0, vfio_user_region_access.sizeof);
    if (command === VFIO_USER_REGION_READ) {
      const data = Buffer.alloc(count);
      bytes.copy(data, 0, at, at + count);
      return { payload: Buffer.concat([head, data]) };
    }
    const isShadowed = region === VFIO_PCI_CONFIG_REGION_INDEX && at >= 0x10 && at < MSIX_AT;
    const isId = region === VFIO_PCI_CONFIG_REGION_INDEX && at < 4;
    if (!isShadowed && !isId) payload.copy(bytes, at, head.length);
    if (this.forgetsCommand) this.config.writeUInt16LE(0, PCI_COMMAND);
    return { payload: Buffer.from(head) };
  }

  close(): void {
    this.memory.close();
  }
}

function nothing(): ShownRegion {
  return { size: 0, flags: 0, offset: 0, capabilities: Buffer.alloc(0), fds: 0 };
}

/** A memory controller with MSI-X: its table and pending bits are in BAR 2. */
function configSpace(): Buffer {
  const config = Buffer.alloc(CONFIG_BYTES);
  config.writeUInt32LE(0x0b01_1b36, 0);
  config.writeUInt16LE(0x10, 6);
  config.writeUInt32LE(0x0580_0001, 8);
  config.writeUInt32LE(0x0b01_1b36, 0x2c);
  config[0x34] = MSIX_AT;
  config[0x3d] = 1;
  config[MSIX_AT] = 0x11;
  config.writeUInt16LE(VECTORS - 1, MSIX_AT + 2);
  config.writeUInt32LE(2, MSIX_AT + 4);
  config.writeUInt32LE(0x802, MSIX_AT + 8);
  return config;
}
