/** The kit's server for one run of a client: it answers rightly, but for one deviation. */
import { POLLIN } from '../../abi/poll.ts';
import type { OwnedFd } from '../../linux/fd.ts';
import { pollOne } from '../../linux/poll.ts';
import { acceptUnix, listenUnix, setSocketTimeout } from '../../linux/socket.ts';
import type { TrialLog } from '../exchange.ts';
import { type Incoming, NO_REPLY, RawPeer } from '../peer.ts';
import { Outcome } from '../verdict.ts';
import { type ClientDeviation, type Outgoing, replyBytes } from './deviation.ts';
import { ShownDevice } from './device.ts';

interface DueReply {
  outgoing: Outgoing;
  dueMs: number;
}

interface DeviantConnection {
  peer: RawPeer;
  queue: DueReply[];
  /** Replies that let others go first. At `dueMs` of the last one they go out, the newest first. */
  yielding: DueReply[];
}

/** A client that does not take what it is sent for so long loses its connection. */
const SEND_MS = 1000;

/** A reply that lets others go first waits so long for them. */
const YIELD_MS = 30;

/** It hardly blocks: its owner calls `pump` as often as it can. */
export class DeviantServer {
  /** How often the client met the deviation. */
  touched = 0;
  /** How many commands came that the deviation is about. */
  private seen = 0;
  private readonly device = new ShownDevice();
  private readonly listener: OwnedFd;
  private readonly deviation: ClientDeviation | null;
  private readonly log: TrialLog;
  private readonly connections: DeviantConnection[] = [];
  private accepted = 0;

  constructor(path: string, deviation: ClientDeviation | null, log: TrialLog) {
    this.deviation = deviation;
    this.log = log;
    deviation?.device?.(this.device);
    this.listener = listenUnix(path);
  }

  pump(): void {
    while (pollOne(this.listener.fd, POLLIN, 0) !== 0) {
      this.accepted += 1;
      const socket = acceptUnix(this.listener);
      setSocketTimeout(socket, SEND_MS);
      const peer = new RawPeer(socket, this.log, this.accepted, 0);
      this.connections.push({ peer, queue: [], yielding: [] });
    }
    for (const connection of [...this.connections]) this.serve(connection);
  }

  private serve(connection: DeviantConnection): void {
    const { peer } = connection;
    for (let next = this.nextDue(connection); next !== null; next = this.nextDue(connection)) {
      const { bytes, fds = [], ends } = next;
      if (!isTaken(peer, bytes, fds) || ends === true) {
        this.drop(connection);
        return;
      }
    }
    for (let message = peer.tryNext(); message !== null; message = peer.tryNext()) {
      if (message === 'end') {
        this.drop(connection);
        return;
      }
      if (!message.isReply) this.answer(connection, message);
    }
  }

  /** Takes the next reply that is due off its list. */
  private nextDue({ queue, yielding }: DeviantConnection): Outgoing | null {
    const now = performance.now();
    if (queue.length > 0 && queue[0].dueMs <= now) {
      const { outgoing } = queue.shift()!;
      // Those that let it go first have their turn.
      if (yielding.length > 0) this.touched += 1;
      queue.unshift(...yielding.splice(0));
      return outgoing;
    }
    if (yielding.length === 0 || yielding.at(-1)!.dueMs > now) return null;
    const newest = yielding.pop()!;
    if (yielding.length > 0) this.touched += 1;
    return newest.outgoing;
  }

  private answer({ queue, yielding }: DeviantConnection, message: Incoming): void {
    const right = this.device.answer(message);
    const isPosted = (message.flags & NO_REPLY) !== 0;
    for (const fd of message.fds) fd.close();
    const { deviation } = this;
    const isAbout = deviation !== null && (deviation.command === null || deviation.command === message.command);
    if (isAbout) this.seen += 1;
    if (isAbout && deviation.reorders !== true) this.touched += 1;
    if (isPosted) return;
    const plain: Outgoing[] = [{ bytes: replyBytes(right), fds: right.fds }];
    const outgoing = isAbout && deviation.reply !== undefined ? deviation.reply(right, this.seen - 1) : plain;
    for (const each of outgoing) {
      if (each.yields === true) {
        yielding.push({ outgoing: each, dueMs: performance.now() + YIELD_MS });
        continue;
      }
      const after = Math.max(performance.now(), queue.at(-1)?.dueMs ?? 0);
      queue.push({ outgoing: each, dueMs: after + (each.afterMs ?? 0) });
    }
  }

  private drop(connection: DeviantConnection): void {
    connection.peer.close();
    this.connections.splice(this.connections.indexOf(connection), 1);
  }

  close(): void {
    for (const connection of [...this.connections]) this.drop(connection);
    this.listener.close();
    this.device.close();
  }
}

/** Sends; false where the client does not read. */
function isTaken(peer: RawPeer, bytes: Buffer, fds: readonly number[]): boolean {
  try {
    if (bytes.length > 0) peer.send(bytes, fds);
    return true;
  } catch (error) {
    if (error instanceof Outcome) return false;
    throw error;
  }
}
