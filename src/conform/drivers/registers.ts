/** Register accesses of the kit's drivers. */
import { VFIO_USER_REGION_READ, VFIO_USER_REGION_WRITE } from '../../abi/vfio-user.ts';
import { CONFIG } from '../facts.ts';
import type { RawPeer } from '../peer.ts';
import * as request from '../requests.ts';

const COMMAND = 4;
const BAR_0 = 0x10;
const BAR_ADDRESS = 0xe000_0000;
const MEMORY = 2;
const MASTER = 4;

export function readRegister(peer: RawPeer, offset: number, count: number, region = 0): bigint {
  const { payload } = peer.ok(VFIO_USER_REGION_READ, request.access(region, offset, count));
  return count === 8 ? payload.readBigUint64LE(16) : BigInt(payload.readUIntLE(16, count));
}

export function writeRegister(peer: RawPeer, offset: number, value: number | bigint, count: number, region = 0): void {
  const data = Buffer.alloc(8);
  data.writeBigUint64LE(BigInt(value));
  peer.ok(VFIO_USER_REGION_WRITE, request.access(region, offset, count, data.subarray(0, count)));
}

/**
 * Lets the device answer, and act as a master or not. The first BAR gets an address, without which QEMU's server refuses
 * every access to it.
 */
export function enable(peer: RawPeer, isMaster: boolean): void {
  writeRegister(peer, BAR_0, BAR_ADDRESS, 4, CONFIG);
  writeRegister(peer, COMMAND, MEMORY | (isMaster ? MASTER : 0), 2, CONFIG);
}
