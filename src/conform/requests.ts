/** Payloads of requests, right or wrong: each field is the caller's choice. */
import {
  VFIO_IRQ_SET_ACTION_TRIGGER,
  VFIO_IRQ_SET_DATA_EVENTFD,
  VFIO_IRQ_SET_DATA_NONE,
  vfio_irq_info,
  vfio_irq_set,
  vfio_region_info,
} from '../abi/vfio.ts';
import { vfio_device_feature } from '../abi/vfio-feature.ts';
import {
  vfio_user_device_info,
  vfio_user_dma_map,
  vfio_user_dma_unmap,
  vfio_user_mig_data,
  vfio_user_region_access,
  vfio_user_region_io_fds,
  vfio_user_region_write_multi,
  vfio_user_write_one,
} from '../abi/vfio-user.ts';

export type U64 = number | bigint;

export function version(json: string | null, major = 0, minor = 0): Buffer {
  const head = Buffer.from([major & 0xff, major >> 8, minor & 0xff, minor >> 8]);
  return json === null ? head : Buffer.concat([head, Buffer.from(`${json}\0`)]);
}

/** A VERSION payload that proposes these capabilities. */
export function proposal(capabilities: object): Buffer {
  return version(JSON.stringify({ capabilities }));
}

export function deviceInfo(argsz = vfio_user_device_info.sizeof): Buffer {
  return vfio_user_device_info.encode({ argsz });
}

export function regionInfo(index: number, argsz = 4096): Buffer {
  return vfio_region_info.encode({ argsz, index });
}

export function irqInfo(index: number, argsz = vfio_irq_info.sizeof): Buffer {
  return vfio_irq_info.encode({ argsz, index });
}

/** Flags of SET_IRQS: assigns an eventfd to each interrupt, or takes it away. */
export const TRIGGER_FD = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
/** Flags of SET_IRQS: triggers now, or with a count of 0 disables the type. */
export const TRIGGER = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER;

export interface IrqRequest {
  flags: number;
  index: number;
  start?: number;
  count?: number;
  /** The bytes of DATA_BOOL. */
  data?: readonly number[];
  argsz?: number;
}

export function setIrqs({ flags, index, start = 0, count = 1, data = [], argsz }: IrqRequest): Buffer {
  const size = vfio_irq_set.sizeof + data.length;
  const head = vfio_irq_set.encode({ argsz: argsz ?? size, flags, index, start, count });
  return Buffer.concat([head, Buffer.from(data)]);
}

export function access(region: number, offset: U64, count: number, data: Uint8Array = new Uint8Array(0)): Buffer {
  return Buffer.concat([vfio_user_region_access.encode({ offset, region, count }), data]);
}

export interface OneWrite {
  region: number;
  offset: U64;
  count: number;
  data: number;
}

export function writeMulti(writes: readonly OneWrite[], count: U64 = writes.length): Buffer {
  const each = writes.map(({ region, offset, count, data }) =>
    vfio_user_write_one.encode({ offset, region, count, data }),
  );
  return Buffer.concat([vfio_user_region_write_multi.encode({ wr_cnt: count }), ...each]);
}

export function ioFds(index: number, argsz = 4096, flags = 0, count = 0): Buffer {
  return vfio_user_region_io_fds.encode({ argsz, flags, index, count });
}

export interface MapFields {
  addr: U64;
  size: U64;
  flags?: number;
  offset?: U64;
  argsz?: number;
}

export function dmaMap({ addr, size, flags = 3, offset = 0, argsz = vfio_user_dma_map.sizeof }: MapFields): Buffer {
  return vfio_user_dma_map.encode({ argsz, flags, offset, addr, size });
}

export function dmaUnmap({ addr, size, flags = 0, argsz = vfio_user_dma_unmap.sizeof }: MapFields): Buffer {
  return vfio_user_dma_unmap.encode({ argsz, flags, addr, size });
}

/** `flags`: the method bits and the feature's number. */
export function feature(flags: number, data: Uint8Array = new Uint8Array(0), argsz?: number): Buffer {
  const room = argsz ?? vfio_device_feature.sizeof + Math.max(data.length, 4096);
  return Buffer.concat([vfio_device_feature.encode({ argsz: room, flags }), data]);
}

export function migData(size: number, data: Uint8Array = new Uint8Array(0), argsz?: number): Buffer {
  const room = argsz ?? vfio_user_mig_data.sizeof + size;
  return Buffer.concat([vfio_user_mig_data.encode({ argsz: room, size }), data]);
}
