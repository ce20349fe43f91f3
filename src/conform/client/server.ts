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

interface DeviantConnection {
  peer: RawPeer;
  queue: { outgoing: Outgoing; dueMs: number }[];
}

/** A client that does not take what it is sent for so long loses its connection. */
const SEND_MS = 1000;

/** It hardly blocks: its owner calls `pump` as often as it can. */
export class DeviantServer {
  /** How many commands came that the deviation is about. */
  touched = 0;
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
      this.connections.push({ peer, queue: [] });
    }
    for (const connection of [...this.connections]) this.serve(connection);
  }

  private serve(connection: DeviantConnection): void {
    const { peer, queue } = connection;
    while (queue.length > 0 && queue[0].dueMs <= performance.now()) {
      const { bytes, fds = [], ends } = queue.shift()!.outgoing;
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

  private answer({ queue }: DeviantConnection, message: Incoming): void {
    const right = this.device.answer(message);
    const isPosted = (message.flags & NO_REPLY) !== 0;
    for (const fd of message.fds) fd.close();
    const { deviation } = this;
    const isAbout = deviation !== null && (deviation.command === null || deviation.command === message.command);
    if (isAbout) this.touched += 1;
    if (isPosted) return;
    const plain: Outgoing[] = [{ bytes: replyBytes(right), fds: right.fds }];
    const outgoing = isAbout && deviation.reply !== undefined ? deviation.reply(right, this.touched - 1) : plain;
    for (const each of outgoing) {
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
