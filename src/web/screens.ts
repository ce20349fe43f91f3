/** The screens of a server's devices as PNGs. All viewers of a screen get one picture, so many cost as much as one. */
import type { Picture } from '../device/screen.ts';
import { pngOf } from '../report/png.ts';

/** A picture is shown again for so long. */
const FRESH_MS = 400;
/** Or for this many times as long as it took to make, since a large one keeps the thread busy. */
const REST = 4;

export class Screens {
  private readonly read: (device: string) => Promise<Picture>;
  private readonly last = new Map<string, { staleMs: number; readonly png: Promise<Uint8Array> }>();
  readonly devices: readonly string[];

  /** `read` gets the picture of a device now. It rejects with a reason in one sentence. */
  constructor(devices: readonly string[], read: (device: string) => Promise<Picture>) {
    this.devices = devices;
    this.read = read;
  }

  /** Null for a device without a screen. Rejects as `read` does. */
  png(device: string): Promise<Uint8Array> | null {
    if (!this.devices.includes(device)) return null;
    const before = this.last.get(device);
    if (before !== undefined && performance.now() < before.staleMs) return before.png;
    const beganMs = performance.now();
    const picture = { staleMs: Number.POSITIVE_INFINITY, png: this.read(device).then(pngOf) };
    this.last.set(device, picture);
    const onEnd = (): void => {
      const endedMs = performance.now();
      picture.staleMs = endedMs + Math.max(FRESH_MS, REST * (endedMs - beganMs));
    };
    picture.png.then(onEnd, onEnd);
    return picture.png;
  }
}
