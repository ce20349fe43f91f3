/** What the screens of a virtio GPU show, and how their pixels are read. */
import { VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID } from '../../abi/virtio_gpu.ts';
import type { Task } from '../../task/op.ts';
import type { QueueWork } from '../virtio/model.ts';
import { GpuError, invalid } from './errors.ts';
import { PIXEL_BYTES } from './formats.ts';
import { backingOf, type Resource } from './resources.ts';
import { Turn } from './turn.ts';

export interface Rect {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** How rows of pixels lie in a resource. */
export interface Rows {
  readonly format: number;
  readonly width: number;
  readonly height: number;
  /** Bytes from the start of the resource to the first row, and from one row to the next. */
  readonly offset: number;
  readonly stride: number;
}

/** Rows of pixels in a resource. */
export interface Surface extends Rows {
  readonly resourceId: number;
  readonly resource: Resource;
}

/** The part of a surface that a screen shows. */
export interface Scanout {
  readonly surface: Surface;
  readonly rect: Rect;
}

export class Scanouts {
  private readonly shown: (Scanout | null)[];

  constructor(count: number) {
    this.shown = Array.from({ length: count }, () => null);
  }

  get count(): number {
    return this.shown.length;
  }

  /** INVALID_SCANOUT_ID for a screen that does not exist. */
  check(id: number): void {
    if (id >= this.shown.length) throw new GpuError(VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID, `scanout ${id}`);
  }

  get(id: number): Scanout | null {
    return this.shown[id] ?? null;
  }

  /** Shows `rect` of a surface, or nothing. INVALID_PARAMETER for a rectangle outside of it. */
  set(id: number, scanout: Scanout | null): void {
    this.check(id);
    if (scanout !== null) checkInside(scanout.rect, scanout.surface.width, scanout.surface.height);
    this.shown[id] = scanout;
  }

  /** The resource is gone: no screen shows it any more. */
  forget(resourceId: number): void {
    for (const [id, scanout] of this.shown.entries()) {
      if (scanout?.surface.resourceId === resourceId) this.shown[id] = null;
    }
  }

  clear(): void {
    this.shown.fill(null);
  }

  /** The screens that show a resource. */
  of(resourceId: number): Scanout[] {
    return this.shown.filter((scanout): scanout is Scanout => scanout?.surface.resourceId === resourceId);
  }
}

/** INVALID_PARAMETER unless the rectangle has pixels and lies inside. */
export function checkInside({ x, y, width, height }: Rect, fullWidth: number, fullHeight: number): void {
  if (width === 0 || height === 0 || x + width > fullWidth || y + height > fullHeight) {
    throw invalid(`${width}x${height} pixels at ${x},${y} of ${fullWidth}x${fullHeight}`);
  }
}

/** The common part of two rectangles; null without one. */
export function intersection(a: Rect, b: Rect): Rect | null {
  const x = Math.max(a.x, b.x);
  const y = Math.max(a.y, b.y);
  const width = Math.min(a.x + a.width, b.x + b.width) - x;
  const height = Math.min(a.y + a.height, b.y + b.height) - y;
  return width > 0 && height > 0 ? { x, y, width, height } : null;
}

/**
 * Calls `row` with the pixels of each row of a rectangle, from the device's memory or by DMA. Lets other tasks run in
 * between.
 */
export function* readRows(
  work: QueueWork,
  { resource, offset, stride }: Surface,
  rect: Rect,
  row: (y: number, pixels: Uint8Array) => void,
): Task {
  const bytes = rect.width * PIXEL_BYTES;
  const buffer = new Uint8Array(bytes);
  const turn = new Turn();
  for (let y = 0; y < rect.height; y++) {
    const at = offset + (rect.y + y) * stride + rect.x * PIXEL_BYTES;
    if (resource.kind === '2d') {
      row(y, resource.pixels.subarray(at, at + bytes));
      yield* turn.took(work, bytes);
      continue;
    }
    yield* backingOf(resource).read(work, at, buffer);
    row(y, buffer);
  }
}
