/** A message and its reply in words, for the page's table. */
import { errnoName } from '../abi/errno.ts';
import { viewOf } from '../abi/layout.ts';
import { VFIO_PCI_CONFIG_REGION_INDEX } from '../abi/vfio.ts';
import * as abi from '../abi/vfio-user.ts';
import { askedFeature } from '../vfio-user/exchange/describe.ts';
import { layoutsOf } from '../vfio-user/exchange/layouts.ts';
import type { SeenExchange } from '../vfio-user/monitor/message-ring.ts';

export interface ExchangeRow {
  readonly atMs: number;
  readonly device: string;
  readonly command: string;
  /** The request's fields. */
  readonly request: string;
  /** The reply's fields, or its errno. */
  readonly reply: string;
  readonly failed: boolean;
  readonly latencyUs: number;
}

export function exchangeRow(exchange: SeenExchange, devices: readonly string[]): ExchangeRow {
  const { atMs, command, errno, latencyUs, replyFds } = exchange;
  const ok = [replyWords(exchange), fds(replyFds)].filter((word) => word !== '').join(', ');
  return {
    atMs,
    device: devices[exchange.device] ?? '',
    command: layoutsOf('vfio-user').get(command)?.name ?? `command ${command}`,
    request: [requestWords(exchange), fds(exchange.requestFds)].filter((word) => word !== '').join(', '),
    reply: errno === 0 ? ok || 'ok' : errnoName(errno),
    failed: errno !== 0,
    latencyUs,
  };
}

function fds(count: number): string {
  return count === 0 ? '' : `${count} descriptor${count === 1 ? '' : 's'}`;
}

function requestWords({ command, request, requestBytes }: SeenExchange): string {
  const view = viewOf(request);
  const has = ({ sizeof }: { sizeof: number }): boolean => request.length >= sizeof;
  switch (command) {
    case abi.VFIO_USER_DMA_MAP:
      return has(abi.vfio_user_dma_map) ? range(view, abi.vfio_user_dma_map.fields) : '';
    case abi.VFIO_USER_DMA_UNMAP:
      return has(abi.vfio_user_dma_unmap) ? range(view, abi.vfio_user_dma_unmap.fields) : '';
    case abi.VFIO_USER_REGION_READ:
    case abi.VFIO_USER_REGION_WRITE:
      return has(abi.vfio_user_region_access) ? access(view, request, command) : '';
    case abi.VFIO_USER_DEVICE_FEATURE:
      return featureWords(request);
    case abi.VFIO_USER_DEVICE_GET_REGION_INFO:
      return request.length >= 12 ? `region ${regionName(view.getUint32(8, true))}` : '';
    case abi.VFIO_USER_DEVICE_SET_IRQS:
    case abi.VFIO_USER_DEVICE_GET_IRQ_INFO:
      return request.length >= 12 ? `index ${view.getUint32(8, true)}` : '';
    default:
      return requestBytes === 0 ? '' : `${requestBytes} bytes`;
  }
}

function replyWords({ command, reply, replyBytes }: SeenExchange): string {
  const { sizeof } = abi.vfio_user_region_access;
  if (command === abi.VFIO_USER_REGION_READ && reply.length > sizeof)
    return valueWords(reply.subarray(sizeof), replyBytes);
  return '';
}

function access(view: DataView, request: Uint8Array, command: number): string {
  const { sizeof, fields } = abi.vfio_user_region_access;
  const place = `${regionName(fields.region.get(view))}+0x${fields.offset.getBig(view).toString(16)}`;
  const count = fields.count.get(view);
  if (command === abi.VFIO_USER_REGION_READ) return `${place}, ${count} bytes`;
  return `${place} = ${valueWords(request.subarray(sizeof), sizeof + count)}`;
}

/** A small value as a number, a long one by its length. `totalBytes` is that of the payload with its struct. */
function valueWords(bytes: Uint8Array, totalBytes: number): string {
  const count = totalBytes - abi.vfio_user_region_access.sizeof;
  if (count > 8 || count > bytes.length) return `${count} bytes`;
  return `0x${Buffer.from(bytes.subarray(0, count)).reverse().toString('hex')}`;
}

function regionName(index: number): string {
  if (index < 6) return `BAR ${index}`;
  return index === VFIO_PCI_CONFIG_REGION_INDEX ? 'config' : `region ${index}`;
}

function featureWords(payload: Uint8Array): string {
  const asked = askedFeature(payload);
  if (asked === null) return '';
  const { name, isProbe, verbs } = asked;
  return `${name} ${[...verbs, ...(isProbe ? ['PROBE'] : [])].join(' ')}`;
}

type RangeFields = Pick<typeof abi.vfio_user_dma_map.fields, 'addr' | 'size'>;

function range(view: DataView, { addr, size }: RangeFields): string {
  return `${size.getBig(view)} bytes at 0x${addr.getBig(view).toString(16)}`;
}
