/** A revoke as the borrower's server saw it, from the trace of `barter serve`. */
import type { TracedExchange } from '../../../src/vfio-user/exchange/exchanges.ts';

/** A lent range, at the borrower's addresses. */
export interface LentRange {
  address: number;
  length: number;
}

export interface RevokeTrace {
  /** For each range: the bytes that DMA_UNMAP removed between the trigger and its return. */
  unmappedBytes: number[];
  /** From the trigger to the last DMA_UNMAP. */
  lastUnmapMs: number | null;
  /** Successful writes to the ranges before and after the trigger returned. */
  writesBefore: number;
  writesAfter: number;
}

/** The bytes of config space that lab/agent/peer/trial.ts reads as markers. */
const MARKERS = new Map([
  [0xffe, 'before'],
  [0xfff, 'returned'],
  [0xffd, 'restored'],
  [0xffc, 'submitting'],
]);

/** The marker that an event stands for, or null. */
function markerOf({ message, request }: TracedExchange): string | null {
  if (message !== 'REGION_READ' || request.region !== 7 || request.count !== 1) return null;
  return MARKERS.get(Number(request.offset)) ?? null;
}

/** The last revoke in the events of one device. */
export function lastRevoke(events: readonly TracedExchange[], ranges: readonly LentRange[]): RevokeTrace {
  const began = events.findLastIndex((event) => markerOf(event) === 'before');
  const returned = events.findLastIndex((event) => markerOf(event) === 'returned');
  const result: RevokeTrace = {
    unmappedBytes: ranges.map(() => 0),
    lastUnmapMs: null,
    writesBefore: 0,
    writesAfter: 0,
  };
  for (const [i, event] of events.entries()) {
    const range = i < began ? -1 : ranges.findIndex((each) => isIn(event, each));
    if (range < 0) continue;
    if (event.message === 'DMA_UNMAP' && i < returned) {
      result.unmappedBytes[range] += Number(event.request.size);
      result.lastUnmapMs = Math.round(1000 * (event.atMs - events[began].atMs)) / 1000;
    }
    if (event.message !== 'DMA_WRITE' || !isDone(event)) continue;
    if (i < returned) result.writesBefore += 1;
    else result.writesAfter += 1;
  }
  return result;
}

/**
 * Counts successful writes between a revoke and the next copy, while the lender's memory was off and after it was on
 * again. There must be none. The borrower's other writes go to memory that its server has mapped, and send no message.
 */
export function lateWrites(events: readonly TracedExchange[]): { whileOff: number; afterRestore: number } {
  let marker: string | null = null;
  const writes = { whileOff: 0, afterRestore: 0 };
  for (const event of events) {
    marker = markerOf(event) ?? marker;
    if (event.message !== 'DMA_WRITE' || !isDone(event)) continue;
    if (marker === 'returned') writes.whileOff += 1;
    if (marker === 'restored') writes.afterRestore += 1;
  }
  return writes;
}

/** Whether the client did what the device asked for. */
function isDone({ reply }: TracedExchange): boolean {
  return reply !== null && reply.errno === null;
}

function isIn({ request: { addr } }: TracedExchange, { address, length }: LentRange): boolean {
  if (addr === undefined) return false;
  const at = Number(addr);
  return at >= address && at < address + length;
}
