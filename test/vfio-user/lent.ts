/** The operations of tests on a served device's lent buffers: memory on and off, and an export by feature 11. */

import assert from 'node:assert/strict';
import { Errno } from '../../src/abi/errno.ts';
import { O_CLOEXEC, O_RDWR } from '../../src/abi/fcntl.ts';
import { VFIO_DEVICE_FEATURE_DMA_BUF, VFIO_DEVICE_FEATURE_GET } from '../../src/abi/vfio-feature.ts';
import type { OwnedFd } from '../../src/linux/fd.ts';
import type { VfioUserClient } from '../../src/vfio-user/client/client.ts';

export interface ExportRequest {
  region?: number;
  openFlags?: number;
  flags?: number;
  ranges?: [number | bigint, number | bigint][];
  envelope?: number;
  /** The value of nr_ranges; by default the number of ranges. */
  said?: number;
}

/** The argument of VFIO_DEVICE_FEATURE_DMA_BUF. */
export function exportArgument(request: ExportRequest): Buffer {
  const { region = 0, openFlags = O_CLOEXEC | O_RDWR, flags = 0, ranges = [[0, 65536]] } = request;
  const bytes = Buffer.alloc(24 + 16 * ranges.length);
  bytes.writeUInt32LE(bytes.length, 0);
  bytes.writeUInt32LE(VFIO_DEVICE_FEATURE_DMA_BUF | (request.envelope ?? VFIO_DEVICE_FEATURE_GET), 4);
  bytes.writeUInt32LE(region, 8);
  bytes.writeUInt32LE(openFlags, 12);
  bytes.writeUInt32LE(flags, 16);
  bytes.writeUInt32LE(request.said ?? ranges.length, 20);
  for (const [i, [offset, length]] of ranges.entries()) {
    bytes.writeBigUInt64LE(BigInt(offset), 24 + 16 * i);
    bytes.writeBigUInt64LE(BigInt(length), 32 + 16 * i);
  }
  return bytes;
}

export function exportBuffer(client: VfioUserClient, request: ExportRequest = {}): OwnedFd {
  const { fds } = client.feature(exportArgument(request));
  assert.equal(fds.length, 1);
  return fds[0];
}

/** The name of the errno with which a call is refused; 'ok' if it succeeds. */
export function outcome(body: () => unknown): string {
  try {
    body();
    return 'ok';
  } catch (error) {
    if (error instanceof Errno) return error.code;
    throw error;
  }
}

export function enableMemory(client: VfioUserClient, on: boolean): void {
  client.writeRegion(7, 4, Buffer.from([on ? 6 : 4, 0]));
}
