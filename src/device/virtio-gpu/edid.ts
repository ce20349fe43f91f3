/** An EDID of a display with one resolution (VESA E-EDID A2). */

const EDID_BYTES = 128;
/** Reduced blanking (VESA CVT 1.2, 5): pixels beside, lines below. */
const HORIZONTAL_BLANK = 160;
const VERTICAL_BLANK = 23;
const FRAMES_PER_S = 60;
/** The pixel clock has 16 bits, in units of 10 kHz. */
const CLOCK_HZ = 10_000;
const MAX_CLOCK = 0xffff;
/** Sizes have 12 bits. */
export const MAX_EDID_PIXELS = 4095;
const PIXELS_PER_MM = 4;

/** The base block for a display of `width` by `height` pixels, each at most MAX_EDID_PIXELS. */
export function edidOf(width: number, height: number): Uint8Array {
  const bytes = new Uint8Array(EDID_BYTES);
  bytes.set([0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00]);
  bytes.set(manufacturer('BRT'), 8);
  bytes.set([1, 0, 1, 0, 0, 0], 10); // product and serial number
  bytes.set([0, 36], 16); // made in 2026
  bytes.set([1, 4], 18); // version 1.4
  bytes.set([0xa5, size(width), size(height), 120], 20); // digital, 8 bits for each colour; size in cm; gamma 2.2
  bytes[24] = 0x06; // sRGB; the first timing is the preferred one
  bytes.set([0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54], 25); // the colours of sRGB
  bytes.fill(0x01, 38, 54); // no standard timings
  bytes.set(timing(width, height), 54);
  bytes.set(descriptor(0xfc, 'Barter\n'), 72); // name
  bytes.set(descriptor(0x10), 90);
  bytes.set(descriptor(0x10), 108);
  bytes[127] = -bytes.reduce((sum, byte) => sum + byte, 0) & 0xff;
  return bytes;
}

function size(pixels: number): number {
  return Math.max(1, Math.round(pixels / PIXELS_PER_MM / 10));
}

/** Three letters of five bits each. */
function manufacturer(letters: string): [number, number] {
  const [a, b, c] = [...letters].map((letter) => letter.charCodeAt(0) - 0x40);
  return [(a << 2) | (b >> 3), ((b & 7) << 5) | c];
}

/** A detailed timing. The frame rate is lower where the clock's bits end. */
function timing(width: number, height: number): number[] {
  const frame = (width + HORIZONTAL_BLANK) * (height + VERTICAL_BLANK);
  const clock = Math.min(MAX_CLOCK, Math.round((frame * FRAMES_PER_S) / CLOCK_HZ));
  const mm = (pixels: number) => Math.round(pixels / PIXELS_PER_MM);
  return [
    clock & 0xff,
    clock >> 8,
    ...[width & 0xff, HORIZONTAL_BLANK & 0xff, ((width >> 8) << 4) | (HORIZONTAL_BLANK >> 8)],
    ...[height & 0xff, VERTICAL_BLANK & 0xff, ((height >> 8) << 4) | (VERTICAL_BLANK >> 8)],
    ...[48, 32, (3 << 4) | 5, 0], // sync: pixels before and wide, lines before and high
    ...[mm(width) & 0xff, mm(height) & 0xff, ((mm(width) >> 8) << 4) | (mm(height) >> 8)],
    ...[0, 0, 0x1a], // no borders; separate sync, positive horizontally
  ];
}

function descriptor(kind: number, text = ''): number[] {
  const bytes = [0, 0, 0, kind, 0];
  for (let i = 0; i < 13; i++) bytes.push(i < text.length ? text.charCodeAt(i) : kind === 0xfc ? 0x20 : 0);
  return bytes;
}
