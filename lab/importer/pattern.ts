/** The pattern that the lab's importer fills memory with (`pattern` of barter_importer.c), for those who compare. */
export function pattern(seed: number, from: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let i = 0; i < length; i++) {
    let x = Math.imul(from + i, 2654435761) ^ seed;
    x ^= x >>> 15;
    x = Math.imul(x, 0x2c1b3c6d);
    bytes[i] = x ^ (x >>> 12);
  }
  return bytes;
}
