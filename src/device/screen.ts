/** What a device shows: the interface of a model with screens. */
import type { Task } from '../task/op.ts';

/** What a screen shows. */
export interface Picture {
  /** Pixels of a row. */
  readonly width: number;
  /** Rows. */
  readonly height: number;
  /** Red, green, blue and alpha of each pixel, a byte each, row by row from the top. */
  readonly pixels: Uint8Array;
}

/** The screens of a device. */
export interface Screen {
  /** How many screens can be plugged in. */
  readonly screenCount: number;
  /**
   * Reads a screen as it is now, from the memory that it shows. ENODATA where nothing is shown; EIO where that memory
   * does not answer; ECANCELED where a reset of the device took the screen away; EINVAL for a screen that does not
   * exist.
   */
  picture(scanout: number): Task<Picture>;
  /**
   * Lets commands of these names wait before they are carried out, as a slow or broken device does; with an empty list
   * all go on. A reset of the device does not wait for them. For tests of drivers. EINVAL for an unknown name.
   */
  hold(commands: readonly string[]): Task;
}
