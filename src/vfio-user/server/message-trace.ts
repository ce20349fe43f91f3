/** The messages between clients and devices, for `barter serve --trace`. */
import { viewOf } from '../../abi/layout.ts';
import * as abi from '../../abi/vfio-user.ts';
import type { Frame } from '../wire/frame.ts';

/** A request as it arrives, or the client's answer to a DMA of the device. */
export interface TraceEvent {
  /** Milliseconds since the epoch, with fractions. */
  atMs: number;
  device: string;
  /** The command's name without its prefix: DMA_MAP, REGION_READ, ... */
  message: string;
  /** Set for DMA commands; hexadecimal. */
  iova?: string;
  sizeBytes?: number;
  /** Set for region commands. */
  region?: number;
  offset?: number;
  /** The number of events lost before this one, because the reader was too slow. */
  lost?: number;
  /** Set for DMA_READ and DMA_WRITE: whether the client did it. */
  ok?: boolean;
}

/** Called with each message. */
export type TraceSink = (event: TraceEvent) => void;

const NAMES = new Map(
  Object.entries(abi)
    .filter(([name]) => /^VFIO_USER_(VERSION|DMA_|DEVICE_|REGION_|MIG_|X_)/.test(name))
    .map(([name, value]) => [value as number, name.slice('VFIO_USER_'.length)]),
);

export function traceRequest(trace: TraceSink, device: string, frame: Frame): void {
  trace({ ...base(device, frame.command), ...fieldsOf(frame) });
}

export function traceDma(
  trace: TraceSink,
  device: string,
  dma: { command: number; address: number; sizeBytes: number; ok: boolean },
): void {
  const { command, address, sizeBytes, ok } = dma;
  trace({ ...base(device, command), iova: hex(address), sizeBytes, ok });
}

function base(device: string, command: number): TraceEvent {
  const atMs = performance.timeOrigin + performance.now();
  return { atMs, device, message: NAMES.get(command) ?? `command ${command}` };
}

function fieldsOf({ command, payload }: Frame): Partial<TraceEvent> {
  const view = viewOf(payload);
  const { vfio_user_dma_map, vfio_user_dma_unmap, vfio_user_region_access } = abi;
  const has = ({ sizeof }: { sizeof: number }): boolean => payload.length >= sizeof;
  switch (command) {
    case abi.VFIO_USER_DMA_MAP:
      return has(vfio_user_dma_map) ? range(view, vfio_user_dma_map.fields) : {};
    case abi.VFIO_USER_DMA_UNMAP:
      return has(vfio_user_dma_unmap) ? range(view, vfio_user_dma_unmap.fields) : {};
    case abi.VFIO_USER_REGION_READ:
    case abi.VFIO_USER_REGION_WRITE: {
      if (!has(vfio_user_region_access)) return {};
      const { offset, region, count } = vfio_user_region_access.fields;
      return { region: region.get(view), offset: Number(offset.getBig(view)), sizeBytes: count.get(view) };
    }
    default:
      return {};
  }
}

type RangeFields = Pick<typeof abi.vfio_user_dma_map.fields, 'addr' | 'size'>;

function range(view: DataView, { addr, size }: RangeFields): Partial<TraceEvent> {
  return { iova: hex(addr.getBig(view)), sizeBytes: Number(size.getBig(view)) };
}

function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`;
}
