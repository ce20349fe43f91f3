/** Captures that tests write. */
import { CaptureEncoder } from '../../src/report/capture.ts';
import type { TappedMessage } from '../../src/vfio-user/wire/tap.ts';

/** The bytes of a capture of these messages, of which none was lost. */
export function captureFile(messages: readonly TappedMessage[]): Buffer {
  const encoder = new CaptureEncoder();
  const parts = [encoder.begin('a test')];
  for (const each of messages) {
    parts.push(encoder.encode(each, 0));
    encoder.wrote(each);
  }
  return Buffer.concat(parts);
}
