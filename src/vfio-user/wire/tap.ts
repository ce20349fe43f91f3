/** Hears whole messages of a server's sockets, for captures and traces. Without a listener a tap costs a null check. */
import { type FdNote, noteOf } from '../../linux/fd-note.ts';

/** vfio-user: a client's socket. twin: its socket for the server's commands. dma-buf: an importer's session. */
export type SocketKind = 'vfio-user' | 'twin' | 'dma-buf';

/** A message on a socket of a server. */
export interface TappedMessage {
  /** Milliseconds since the epoch, with fractions. */
  atMs: number;
  /** The kind of socket. */
  kind: SocketKind;
  /** The name of the device. */
  device: string;
  /** Counts the clients and importers of the server. A client's twin socket has the client's number. */
  connection: number;
  /** The process at the other end; 0 for a process of another pid namespace. */
  pid: number;
  /** Whether the server sent it. */
  isSent: boolean;
  /** The descriptors that came with it. */
  fds: readonly FdNote[];
  /** Header and payload; a copy. Empty where the connection ended: nothing follows. */
  bytes: Uint8Array;
}

export type TapSink = (message: TappedMessage) => void;

/** One socket's tap. `bytes` must be whole messages, and are valid during the call alone, as `fds` are. */
export type Tap = (isSent: boolean, bytes: Uint8Array, fds?: readonly number[]) => void;

export const NO_BYTES = new Uint8Array();

/** Makes the taps of a server. Null where nobody listens. */
export class Taps {
  private readonly sink: TapSink;
  private connections = 0;

  constructor(sink: TapSink) {
    this.sink = sink;
  }

  nextConnection(): number {
    return ++this.connections;
  }

  of(kind: SocketKind, device: string, connection: number, pid: number): Tap {
    return (isSent, bytes, fds = []) => {
      const atMs = performance.timeOrigin + performance.now();
      // A Buffer's slice() would be a view, and a message to another thread would take all memory below it.
      const copy = new Uint8Array(bytes);
      this.sink({ atMs, kind, device, connection, pid, isSent, fds: fds.map(noteOf), bytes: copy });
    };
  }
}
