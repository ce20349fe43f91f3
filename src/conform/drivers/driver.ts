/** Plug-ins that make a device do DMA and interrupt. The kit knows devices only through them. */
import type { Facts } from '../facts.ts';
import type { TrialMemory } from '../memory.ts';
import type { RawPeer } from '../peer.ts';

export interface DmaJob {
  /** The first address of the client's memory; what is written goes there. */
  target: number;
  /** 16 KiB for the driver: rings, descriptors, a source. */
  scratch: number;
  /** Whether the device may act as a bus master. */
  isMaster: boolean;
}

export interface DeviceDriver {
  readonly name: string;
  /** Whether it knows the device; `facts.config` has the vendor and the device ID. */
  matches(facts: Facts): boolean;
  /** The interrupt at the end of the work: its index, vector 0. */
  readonly irqIndex: number;
  /** The bytes that come to `target`. */
  readonly sizeBytes: number;
  /** After so long without DMA the work is over, or does not come. */
  readonly settleMs: number;
  /** The device goes on after the last byte has come to `target`, until it is quiet for so long; 0 by default. */
  readonly lingerMs?: number;
  /**
   * Makes the device write `sizeBytes` to `target`, by whatever DMA it needs besides. Returns when the last register is
   * written; the device's DMA may come before and after that. Broken where a register cannot be written.
   */
  start(peer: RawPeer, memory: TrialMemory, job: DmaJob): void;
}

export function deviceId({ config }: Facts): number {
  return config.length < 4 ? 0 : config.readUInt32LE(0);
}
