/** Pictures of screens as PNG files. */
import { encode } from 'fast-png';
import type { Picture } from '../device/screen.ts';

/** A PNG without an alpha channel, since screens are opaque. */
export function pngOf({ width, height, pixels }: Picture): Uint8Array {
  const data = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; to < data.length; from += 4, to += 3) {
    data[to] = pixels[from];
    data[to + 1] = pixels[from + 1];
    data[to + 2] = pixels[from + 2];
  }
  return encode({ width, height, data, channels: 3, depth: 8 });
}
