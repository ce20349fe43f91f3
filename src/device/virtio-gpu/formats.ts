/** Pixel formats of four bytes, and their conversion to RGBA. */
import {
  VIRTIO_GPU_FORMAT_A8B8G8R8_UNORM,
  VIRTIO_GPU_FORMAT_A8R8G8B8_UNORM,
  VIRTIO_GPU_FORMAT_B8G8R8A8_UNORM,
  VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM,
  VIRTIO_GPU_FORMAT_R8G8B8A8_UNORM,
  VIRTIO_GPU_FORMAT_R8G8B8X8_UNORM,
  VIRTIO_GPU_FORMAT_X8B8G8R8_UNORM,
  VIRTIO_GPU_FORMAT_X8R8G8B8_UNORM,
} from '../../abi/virtio_gpu.ts';

export const PIXEL_BYTES = 4;

/** The places of red, green, blue and alpha in a pixel; null without alpha. */
type Places = readonly [red: number, green: number, blue: number, alpha: number | null];

const FORMATS: ReadonlyMap<number, Places> = new Map<number, Places>([
  [VIRTIO_GPU_FORMAT_B8G8R8A8_UNORM, [2, 1, 0, 3]],
  [VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM, [2, 1, 0, null]],
  [VIRTIO_GPU_FORMAT_A8R8G8B8_UNORM, [1, 2, 3, 0]],
  [VIRTIO_GPU_FORMAT_X8R8G8B8_UNORM, [1, 2, 3, null]],
  [VIRTIO_GPU_FORMAT_R8G8B8A8_UNORM, [0, 1, 2, 3]],
  [VIRTIO_GPU_FORMAT_X8B8G8R8_UNORM, [3, 2, 1, null]],
  [VIRTIO_GPU_FORMAT_A8B8G8R8_UNORM, [3, 2, 1, 0]],
  [VIRTIO_GPU_FORMAT_R8G8B8X8_UNORM, [0, 1, 2, null]],
]);

export function isFormat(format: number): boolean {
  return FORMATS.has(format);
}

/** Converts pixels in place. `keepsAlpha`: for a cursor. A screen is opaque. */
export function toRgba(pixels: Uint8Array, format: number, keepsAlpha: boolean): void {
  const [red, green, blue, alpha] = FORMATS.get(format)!;
  for (let at = 0; at < pixels.length; at += PIXEL_BYTES) {
    const r = pixels[at + red];
    const g = pixels[at + green];
    const b = pixels[at + blue];
    const a = keepsAlpha && alpha !== null ? pixels[at + alpha] : 0xff;
    pixels[at] = r;
    pixels[at + 1] = g;
    pixels[at + 2] = b;
    pixels[at + 3] = a;
  }
}
