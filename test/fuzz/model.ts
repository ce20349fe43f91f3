/**
 * The facts that a client knows about its device from its own messages and their replies alone. Bytes that it wrote
 * must come back, and a DMA region exists from its DMA_MAP to its DMA_UNMAP.
 */

import { viewOf } from '../../src/abi/layout.ts';
import {
  VFIO_DEVICE_FEATURE_MASK,
  VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
  vfio_device_feature,
} from '../../src/abi/vfio-feature.ts';
import {
  VFIO_USER_DEVICE_FEATURE,
  VFIO_USER_DMA_MAP,
  VFIO_USER_DMA_UNMAP,
  VFIO_USER_MIG_DATA_WRITE,
  VFIO_USER_REGION_READ,
  VFIO_USER_REGION_WRITE,
  VFIO_USER_REGION_WRITE_MULTI,
  vfio_user_dma_map,
  vfio_user_dma_unmap,
  vfio_user_region_access,
  vfio_user_write_one,
} from '../../src/abi/vfio-user.ts';
import type { RawReply } from '../vfio-user/raw-client.ts';
import { type Coverage, FuzzFinding } from './fuzzer.ts';

/** Bytes of the lender's BAR 0 that only its client writes: no lent buffer reaches them. */
export const MODEL_START = 512 * 1024;
export const MODEL_BYTES = 16 * 1024;
const ENOENT = 2;
const EEXIST = 17;
const UNKNOWN = -1;
const access = vfio_user_region_access;

export interface Asked {
  id: number;
  command: number;
  payload: Buffer;
  noReply: boolean;
}

interface Region {
  iova: bigint;
  size: bigint;
}

export class Model {
  private readonly coverage: Coverage;
  private readonly hasMemory: boolean;
  private readonly bytes = new Int16Array(MODEL_BYTES).fill(UNKNOWN);
  /** Null after a message without a reply, which may have changed them. */
  private regions: Region[] | null = [];

  /** `hasMemory`: the device is the lender, whose BAR 0 is plain memory. */
  constructor(coverage: Coverage, hasMemory: boolean) {
    this.coverage = coverage;
    this.hasMemory = hasMemory;
  }

  /** A message without a reply makes everything unknown that it may have changed. */
  posted({ command, payload }: Asked): void {
    this.forgetMigrated(command, payload);
    if (command === VFIO_USER_DMA_MAP || command === VFIO_USER_DMA_UNMAP) this.regions = null;
    if (command === VFIO_USER_REGION_WRITE) this.forgetWrite(payload);
    if (command === VFIO_USER_REGION_WRITE_MULTI) this.forgetMulti(payload);
  }

  replied({ command, payload }: Asked, reply: RawReply): void {
    if (reply.error === 0) this.forgetMigrated(command, payload);
    if (command === VFIO_USER_REGION_WRITE) this.wrote(payload, reply);
    else if (command === VFIO_USER_REGION_WRITE_MULTI) this.forgetMulti(payload);
    else if (command === VFIO_USER_REGION_READ) this.checkRead(payload, reply);
    else if (command === VFIO_USER_DMA_MAP) this.checkMap(payload, reply);
    else if (command === VFIO_USER_DMA_UNMAP && (reply.error === 0 || reply.error === ENOENT)) {
      this.checkUnmap(payload, reply);
    }
  }

  /** The place in `bytes` of an access to the model's part; null for other accesses. */
  private at(payload: Buffer): { start: number; length: number } | null {
    if (!this.hasMemory || payload.length < access.sizeof) return null;
    const view = viewOf(payload);
    const offset = access.fields.offset.getBig(view);
    const length = access.fields.count.get(view);
    const isOutside = offset + BigInt(length) <= MODEL_START || offset >= MODEL_START + MODEL_BYTES;
    if (access.fields.region.get(view) !== 0 || isOutside) return null;
    const start = Number(offset) - MODEL_START;
    return start < 0 || start + length > MODEL_BYTES ? { start: Math.max(0, start), length: -1 } : { start, length };
  }

  private wrote(payload: Buffer, reply: RawReply): void {
    const place = this.at(payload);
    if (place === null || reply.error !== 0) return;
    if (place.length < 0) this.forgetWrite(payload);
    else this.bytes.set(payload.subarray(access.sizeof, access.sizeof + place.length), place.start);
  }

  private checkRead(payload: Buffer, reply: RawReply): void {
    const place = this.at(payload);
    if (place === null || place.length < 0 || reply.error !== 0) return;
    const data = reply.payload.subarray(access.sizeof);
    if (data.length !== place.length) throw new FuzzFinding(`a read of ${place.length} bytes brings ${data.length}`);
    let known = 0;
    for (let i = 0; i < data.length; i++) {
      const expected = this.bytes[place.start + i];
      if (expected === UNKNOWN) this.bytes[place.start + i] = data[i];
      else if (expected !== data[i]) {
        const where = (MODEL_START + place.start + i).toString(16);
        throw new FuzzFinding(`BAR 0 has ${data[i]} at 0x${where}, where ${expected} was written`);
      } else known += 1;
    }
    if (known > 0) this.coverage.count('server: model: reads of bytes that were written or read before');
  }

  /** A device that resumes may contain other bytes. */
  private forgetMigrated(command: number, payload: Buffer): void {
    const isState =
      command === VFIO_USER_DEVICE_FEATURE &&
      payload.length >= vfio_device_feature.sizeof &&
      (payload.readUInt32LE(4) & VFIO_DEVICE_FEATURE_MASK) === VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE;
    if (isState || command === VFIO_USER_MIG_DATA_WRITE) this.bytes.fill(UNKNOWN);
  }

  private forgetWrite(payload: Buffer): void {
    const place = this.at(payload);
    if (place === null) return;
    if (place.length < 0) this.bytes.fill(UNKNOWN);
    else this.bytes.fill(UNKNOWN, place.start, place.start + place.length);
  }

  private forgetMulti(payload: Buffer): void {
    for (let at = 8; at + vfio_user_write_one.sizeof <= payload.length; at += vfio_user_write_one.sizeof) {
      this.forgetWrite(payload.subarray(at));
    }
  }

  private checkMap(payload: Buffer, reply: RawReply): void {
    if (this.regions === null || payload.length < vfio_user_dma_map.sizeof) return;
    const view = viewOf(payload);
    const iova = vfio_user_dma_map.fields.addr.getBig(view);
    const size = vfio_user_dma_map.fields.size.getBig(view);
    const overlaps = this.regions.some((other) => other.iova < iova + size && iova < other.iova + other.size);
    if (reply.error === 0 && overlaps) throw new FuzzFinding(`DMA_MAP of ${size} at 0x${iova.toString(16)} overlaps`);
    if (reply.error === EEXIST && !overlaps)
      throw new FuzzFinding(`DMA_MAP at 0x${iova.toString(16)}: nothing is there`);
    if (reply.error === 0) this.regions.push({ iova, size });
    this.coverage.count('server: model: DMA_MAP as expected');
  }

  private checkUnmap(payload: Buffer, reply: RawReply): void {
    if (this.regions === null) return;
    const { fields } = vfio_user_dma_unmap;
    const view = viewOf(payload);
    const isAll = (fields.flags.get(view) & 2) !== 0;
    const iova = fields.addr.getBig(view);
    const end = iova + fields.size.getBig(view);
    const gone = this.regions.filter((region) => isAll || (region.iova >= iova && region.iova + region.size <= end));
    const expected = gone.reduce((sum, region) => sum + region.size, 0n);
    const cuts = this.regions.some(
      (region) => !gone.includes(region) && region.iova < end && iova < region.iova + region.size,
    );
    if (reply.error === ENOENT) {
      if (expected > 0n && !cuts) throw new FuzzFinding(`DMA_UNMAP of ${expected} bytes: nothing is there`);
      return;
    }
    const said = fields.size.getBig(viewOf(reply.payload));
    if (said !== expected) throw new FuzzFinding(`DMA_UNMAP says ${said} bytes; ${expected} were mapped there`);
    this.regions = this.regions.filter((region) => !gone.includes(region));
    this.coverage.count('server: model: DMA_UNMAP as expected');
  }
}
