/** The argument bytes of steps that are a VFIO_DEVICE_FEATURE: the same on every backend. */
import { O_RDWR } from '../abi/fcntl.ts';
import { viewOf } from '../abi/layout.ts';
import {
  VFIO_DEVICE_FEATURE_DMA_BUF,
  VFIO_DEVICE_FEATURE_GET,
  VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY,
  VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP,
  VFIO_DEVICE_FEATURE_LOW_POWER_EXIT,
  VFIO_DEVICE_FEATURE_SET,
} from '../abi/vfio-feature.ts';
import { vfio_device_feature_dma_buf_revoke, vfio_device_feature_dma_buf_tph } from '../abi/vfio-proposed.ts';
import { PROFILES, type Proposed } from '../vfio/profile.ts';
import { type StepOf, toU64 } from './step.ts';

export type FeatureStep = StepOf<
  | 'feature'
  | 'export'
  | 'revoke-buffer'
  | 'set-tph'
  | 'low-power-entry'
  | 'low-power-entry-with-wakeup'
  | 'low-power-exit'
>;

/** The numbers of features that are not merged, where a backend has none. */
const NUMBERS = PROFILES.next.proposed!;

/**
 * The bytes of VFIO_DEVICE_FEATURE for a step, its header first. Bytes past their end must be unreadable. `fd` is the
 * descriptor of the step's eventfd or buffer.
 */
export function featureArgument(step: FeatureStep, fd: number, proposed: Proposed | null = null): Buffer {
  const set = VFIO_DEVICE_FEATURE_SET;
  switch (step.op) {
    case 'feature':
      return envelope(step.argsz, step.flags, Buffer.from(step.payload, 'hex')).subarray(0, step.headerBytes);
    case 'low-power-entry':
      return envelope(8, set | VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY, Buffer.alloc(0));
    case 'low-power-exit':
      return envelope(8, set | VFIO_DEVICE_FEATURE_LOW_POWER_EXIT, Buffer.alloc(0));
    case 'low-power-entry-with-wakeup': {
      const payload = Buffer.alloc(8);
      payload.writeInt32LE(fd, 0);
      return envelope(16, set | VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP, payload);
    }
    case 'revoke-buffer': {
      const payload = Buffer.alloc(vfio_device_feature_dma_buf_revoke.sizeof);
      vfio_device_feature_dma_buf_revoke.fields.dmabuf_fd.set(viewOf(payload), 0, fd);
      return envelope(8 + payload.length, set | (proposed ?? NUMBERS).revoke, payload);
    }
    case 'set-tph': {
      const { sizeof, fields } = vfio_device_feature_dma_buf_tph;
      const payload = Buffer.alloc(sizeof);
      const view = viewOf(payload);
      fields.dmabuf_fd.set(view, 0, fd);
      fields.flags.set(view, 0, step.flags);
      fields.steering_tag.set(view, 0, step.steeringTag ?? 0);
      fields.steering_tag_ext.set(view, 0, step.steeringTagExt ?? 0);
      fields.ph.set(view, 0, step.ph ?? 0);
      return envelope(8 + sizeof, set | (proposed ?? NUMBERS).tph, payload);
    }
    case 'export': {
      const payload = Buffer.alloc(16 + 16 * step.ranges.length);
      payload.writeUInt32LE(step.region, 0);
      payload.writeUInt32LE(step.openFlags ?? O_RDWR, 4);
      payload.writeUInt32LE(step.flags ?? 0, 8);
      payload.writeUInt32LE(step.nrRanges ?? step.ranges.length, 12);
      for (const [i, [offset, length]] of step.ranges.entries()) {
        payload.writeBigUInt64LE(toU64(offset), 16 + 16 * i);
        payload.writeBigUInt64LE(toU64(length), 24 + 16 * i);
      }
      return envelope(8 + payload.length, VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_BUF, payload);
    }
  }
}

function envelope(argsz: number, flags: number, payload: Buffer): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt32LE(argsz, 0);
  header.writeUInt32LE(flags >>> 0, 4);
  return Buffer.concat([header, payload]);
}
