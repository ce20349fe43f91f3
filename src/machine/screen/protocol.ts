/**
 * The socket of a screen, NAME.screen beside the device's NAME.sock (docs/virtio-gpu.md). It is for the owner alone, and
 * apart from vfio-user: the device's client does not notice it. The peer sends a request, a line of JSON, and gets a line
 * of JSON. The pixels of a picture come as a memfd with that line, so that a slow reader does not hold the server.
 */
import { basename, dirname, join } from 'node:path';

export type ScreenRequest =
  /** Reads a screen as it is now. */
  | { do: 'picture'; scanout: number }
  /** Screen.hold. */
  | { do: 'hold'; commands: string[] };

export type ScreenReply = { width: number; height: number } | { ok: true } | { errno: string; message: string };

/** The most bytes of a request. A reply may quote it, and be longer. */
export const LINE_BYTES = 4096;

/** The screen's socket of a device whose socket is at `path`. */
export function screenPath(path: string): string {
  return join(dirname(path), `${basename(path, '.sock')}.screen`);
}
