/** What a client's connection needs of the server around it. */
import type { Task } from '../../task/op.ts';
import type { VfioPciCoreDevice } from '../../vfio/core.ts';
import type { Exports } from '../dma-buf/exports.ts';
import type { EventLoop } from '../wire/event-loop.ts';
import type { Log } from '../wire/log.ts';
import type { TraceSink } from './message-trace.ts';

/** One client of one device, as the server counts it. */
export interface Client {
  /** The process at the other end; 0 for a process of another pid namespace. */
  readonly peerPid: number;
  /** The peer has closed its end: nothing but the rest of its messages can come. */
  readonly isLeaving: boolean;
}

export interface SessionHost {
  readonly loop: EventLoop;
  readonly exports: Exports;
  /** Claims the device. Waits while the client before it is leaving; EBUSY while another client has the device. */
  claim(client: Client): Task;
  /** The client that has a device now, of all that this process serves. */
  ownerOf(vdev: VfioPciCoreDevice): Client | null;
  /** Called once, when everything that the client had is given back. */
  onEnd(client: Client): void;
  readonly log: Log;
  /** Null where nobody wants to hear of messages. */
  readonly trace: TraceSink | null;
}
