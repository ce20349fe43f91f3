/** Messages as a tap hears them. */
import type { TappedMessage } from '../../src/vfio-user/wire/tap.ts';

/** A client's message to the lender, without descriptors, at the time 0, unless `more` says otherwise. */
export function said(bytes: Uint8Array, more: Partial<TappedMessage> = {}): TappedMessage {
  return {
    atMs: 0,
    kind: 'vfio-user',
    device: 'lender',
    connection: 1,
    pid: 7,
    isSent: false,
    fds: [],
    bytes,
    ...more,
  };
}
