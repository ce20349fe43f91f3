/** The server's services for a client's connection. */
import type { Task } from '../../task/op.ts';
import type { VfioPciCoreDevice } from '../../vfio/core.ts';
import type { Exports } from '../dma-buf/exports.ts';
import type { DeviceMonitor } from '../monitor/monitor.ts';
import type { EventLoop } from '../wire/event-loop.ts';
import type { Log } from '../wire/log.ts';
import type { Taps } from '../wire/tap.ts';

/** The server's record of one client of one device. */
export interface Client {
  /** The process at the other end; 0 for a process of another pid namespace. */
  readonly peerPid: number;
  /** The peer has closed its end; only the rest of its messages can come. */
  readonly isLeaving: boolean;
  /** Its number among all connections, if somebody listens to messages. */
  readonly connectionNumber: number;
}

export interface SessionHost {
  readonly loop: EventLoop;
  readonly exports: Exports;
  /** The part of a round of the loop that is a client's, in ms. */
  readonly clientRoundMs: number;
  /** Claims the device. Waits while the client before it is leaving; EBUSY while another client has the device. */
  claim(client: Client): Task;
  /** Returns the client that has a device now, of all clients of this process. */
  ownerOf(vdev: VfioPciCoreDevice): Client | null;
  /** Called once, after everything of the client is given back. */
  onEnd(client: Client): void;
  readonly log: Log;
  /** Null where nobody listens to messages. */
  readonly taps: Taps | null;
  /** Null while nobody watches the server. */
  readonly monitor: DeviceMonitor | null;
}
