/** Hardware cursors: one for each screen, drawn over what it shows. */
import { VIRTIO_GPU_FORMAT_B8G8R8A8_UNORM } from '../../abi/virtio_gpu.ts';
import type { Task } from '../../task/op.ts';
import type { Picture } from '../screen.ts';
import type { QueueWork } from '../virtio/model.ts';
import { invalid } from './errors.ts';
import { PIXEL_BYTES, toRgba } from './formats.ts';
import { backingOf, type Resource } from './resources.ts';

/** Virtio 1.3, 5.7.6.10: cursors have 64 by 64 pixels. */
const CURSOR_SIZE = 64;
const CURSOR_BYTES = CURSOR_SIZE * CURSOR_SIZE * PIXEL_BYTES;

export interface Cursor {
  /** Where its upper left pixel is. */
  x: number;
  y: number;
  /** RGBA; null while the cursor is hidden. */
  pixels: Uint8Array | null;
}

export function hiddenCursor(): Cursor {
  return { x: 0, y: 0, pixels: null };
}

/** Reads the pixels of a cursor from a resource. */
export function* cursorPixels(work: QueueWork, resource: Resource): Task<Uint8Array> {
  const pixels = new Uint8Array(CURSOR_BYTES);
  if (resource.kind === '2d') {
    if (resource.width !== CURSOR_SIZE || resource.height !== CURSOR_SIZE) {
      throw invalid(`a cursor of ${resource.width}x${resource.height} pixels`);
    }
    pixels.set(resource.pixels);
    toRgba(pixels, resource.format, true);
    return pixels;
  }
  yield* backingOf(resource).read(work, 0, pixels);
  // A blob does not say its format. Drivers use this one for cursors.
  toRgba(pixels, VIRTIO_GPU_FORMAT_B8G8R8A8_UNORM, true);
  return pixels;
}

/** Draws the cursor over a picture. Its colours are premultiplied by alpha, as Linux has them. */
export function drawCursor({ width, height, pixels }: Picture, cursor: Cursor): void {
  if (cursor.pixels === null) return;
  for (let row = 0; row < CURSOR_SIZE; row++) {
    // Positions are 32 bits and wrap: a cursor may begin left of the screen or above it.
    const y = (cursor.y + row) | 0;
    if (y < 0 || y >= height) continue;
    for (let column = 0; column < CURSOR_SIZE; column++) {
      const x = (cursor.x + column) | 0;
      if (x < 0 || x >= width) continue;
      blend(pixels, (y * width + x) * PIXEL_BYTES, cursor.pixels, (row * CURSOR_SIZE + column) * PIXEL_BYTES);
    }
  }
}

function blend(target: Uint8Array, at: number, source: Uint8Array, from: number): void {
  const through = 0xff - source[from + 3];
  for (let i = 0; i < 3; i++) {
    const sum = source[from + i] + Math.round((target[at + i] * through) / 0xff);
    target[at + i] = Math.min(0xff, sum);
  }
}
