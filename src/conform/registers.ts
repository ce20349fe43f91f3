/** Accesses of a device's registers by messages, for the drivers and the rules. */
import { PCI_BASE_ADDRESS_0, PCI_COMMAND, PCI_COMMAND_MASTER, PCI_COMMAND_MEMORY } from '../abi/pci_regs.ts';
import { VFIO_USER_REGION_READ, VFIO_USER_REGION_WRITE, vfio_user_region_access } from '../abi/vfio-user.ts';
import { CONFIG } from './facts.ts';
import type { RawPeer } from './peer.ts';
import * as request from './requests.ts';
import { demand } from './verdict.ts';

const HEAD = vfio_user_region_access.sizeof;
const BAR_ADDRESS = 0xe000_0000;

export function readRegister(peer: RawPeer, offset: number, count: number, region = 0): bigint {
  const { payload } = peer.ok(VFIO_USER_REGION_READ, request.access(region, offset, count));
  demand(payload.length >= HEAD + count, `${payload.length} bytes for a read of ${count}`);
  return count === 8 ? payload.readBigUint64LE(HEAD) : BigInt(payload.readUIntLE(HEAD, count));
}

export function writeRegister(peer: RawPeer, offset: number, value: number | bigint, count: number, region = 0): void {
  const data = Buffer.alloc(8);
  data.writeBigUint64LE(BigInt(value));
  peer.ok(VFIO_USER_REGION_WRITE, request.access(region, offset, count, data.subarray(0, count)));
}

export function readConfig(peer: RawPeer, offset: number, count: number): number {
  return Number(readRegister(peer, offset, count, CONFIG));
}

export function writeConfig(peer: RawPeer, offset: number, value: number, count: number): void {
  writeRegister(peer, offset, value, count, CONFIG);
}

/**
 * Lets the device answer, and act as a master or not. The first BAR gets an address, without which QEMU's server refuses
 * every access to it.
 */
export function enable(peer: RawPeer, isMaster: boolean): void {
  writeConfig(peer, PCI_BASE_ADDRESS_0, BAR_ADDRESS, 4);
  writeConfig(peer, PCI_COMMAND, PCI_COMMAND_MEMORY | (isMaster ? PCI_COMMAND_MASTER : 0), 2);
}
