/** One client of one device: takes its messages, serves its requests in order, and sends its replies. */
import { ERRNO, Errno } from '../../abi/errno.ts';
import { VFIO_USER_F_TYPE_REPLY, VFIO_USER_HEADER_SIZE, VFIO_USER_VERSION } from '../../abi/vfio-user.ts';
import type { OwnedFd } from '../../linux/fd.ts';
import { peerCredentials } from '../../linux/socket.ts';
import type { Task } from '../../task/op.ts';
import { condResched, runner } from '../../task/runner.ts';
import { WaitQueue } from '../../task/wait-queue.ts';
import type { VfioPciCoreDevice } from '../../vfio/core.ts';
import { beyondLimit } from '../../vfio/limit-hits.ts';
import { Connection } from '../wire/connection.ts';
import type { Deadline } from '../wire/deadlines.ts';
import { type Frame, LIMITS, type ReceivedFrame, writeHeader } from '../wire/frame.ts';
import type { LimitUse } from '../wire/limit-use.ts';
import type { LogLevel } from '../wire/log.ts';
import { agree } from './handshake.ts';
import { regionAccessNow } from './region-access.ts';
import { Reply } from './reply.ts';
import { RequestQueue } from './request-queue.ts';
import { serveRequest } from './requests.ts';
import type { Session } from './session.ts';
import type { Client, SessionHost } from './session-host.ts';

export class ClientConnection implements Client {
  readonly peerPid: number;
  readonly connectionNumber: number;
  private readonly host: SessionHost;
  private readonly vdev: VfioPciCoreDevice;
  private readonly connection: Connection;
  private readonly reply = new Reply();
  private readonly queue = new RequestQueue();
  /** Wakes a request that waits until the client has taken the earlier replies. */
  private readonly drained = new WaitQueue('replies that a client takes');
  private readonly handshake: Deadline;
  private session: Session | null = null;
  private busy = false;
  /** The last round of the loop with a request of this client, and when its time in that round is over. */
  private round = -1;
  private roundEndsMs = 0;

  constructor(host: SessionHost, vdev: VfioPciCoreDevice, socket: OwnedFd) {
    this.host = host;
    this.vdev = vdev;
    this.peerPid = peerCredentials(socket).pid;
    this.connectionNumber = host.taps?.nextConnection() ?? 0;
    const tap = host.taps?.of('vfio-user', vdev.pdev.name, this.connectionNumber, this.peerPid) ?? null;
    const events = {
      onFrame: (frame: ReceivedFrame) => this.onFrame(frame),
      onClose: (why: Error | null) => this.onClose(why),
      onDrained: () => runner.run(this.drained.wake()),
    };
    this.connection = new Connection(host.loop, socket, events, tap);
    this.handshake = host.loop.after(LIMITS.handshakeTimeoutMs, () => {
      const reason = `no VERSION within ${LIMITS.handshakeTimeoutMs} ms`;
      this.close(beyondLimit('handshakeTimeoutMs', 'ETIMEDOUT', reason));
    });
  }

  get isLeaving(): boolean {
    return this.connection.isLeaving;
  }

  close(why: Error | null): void {
    this.connection.close(why);
  }

  private onFrame(frame: ReceivedFrame): boolean {
    if (frame.isReply) {
      for (const fd of frame.fds) fd.close();
      if (this.session === null) throw new Errno('EPROTO', 'a reply before the first command');
      this.session.onReply(frame);
      return false;
    }
    if (this.host.monitor !== null) frame.arrivedMs = performance.now();
    if (this.busy) {
      this.queue.push(frame);
      if (this.queue.isFull) {
        this.queue.countHits();
        this.connection.setPaused(true);
      }
      return false;
    }
    const isOverTime = this.isOverTime();
    if (!isOverTime && this.session !== null && this.accessNow(this.session, frame)) return false;
    this.busy = true;
    const task = runner.start(`request ${frame.command} of ${this.vdev.pdev.name}`, this.serve(frame, isOverTime));
    return !task.ended;
  }

  /** Whether this client has had its time of this round of the loop. */
  private isOverTime(): boolean {
    const { round } = this.host.loop;
    if (round === this.round) return performance.now() > this.roundEndsMs;
    this.round = round;
    this.roundEndsMs = performance.now() + this.host.clientRoundMs;
    return false;
  }

  /** Serves a read or write of plain bytes without a task; false where the access needs one. */
  private accessNow(session: Session, frame: ReceivedFrame): boolean {
    let error = 0;
    try {
      if (!regionAccessNow(session, frame, this.reply)) return false;
    } catch (thrown) {
      error = this.errorOf(thrown);
    }
    if (!frame.noReply) this.sendReply(frame, error);
    this.host.monitor?.exchange(frame, error, this.reply);
    return true;
  }

  private errorOf(thrown: unknown): number {
    this.reply.begin();
    const errno = Errno.of(thrown);
    if (errno === null) this.log('error', 'defect', (thrown as Error).stack!);
    // The server is short of something, which is its operator's concern.
    else if (errno !== thrown) this.log('warn', 'short', `a request failed: ${errno.message}`);
    return errno === null ? ERRNO.EIO : -errno.errno;
  }

  /**
   * Serves a request and those that came meanwhile, one after the other, as the protocol demands. A client that has had
   * its time lets others go first.
   */
  private *serve(first: Frame, isOverTime: boolean): Task {
    if (isOverTime) yield* condResched();
    for (let frame: Frame | undefined = first; frame !== undefined; frame = this.nextQueued()) {
      if (this.connection.isOpen) yield* this.serveOne(frame);
      for (const fd of frame.fds) fd.close();
      // The client ends this wait: it takes its replies or leaves.
      yield* this.drained.waitUntil(() => !this.connection.isClogged || !this.connection.isOpen);
      if (this.isOverTime()) yield* condResched();
    }
    this.busy = false;
    if (!this.connection.isOpen) yield* this.end();
  }

  private nextQueued(): Frame | undefined {
    // The end of a pause hands on frames that waited behind it, so look before taking.
    if (this.queue.hasRoom) this.connection.setPaused(false);
    return this.queue.shift();
  }

  private *serveOne(frame: Frame): Task {
    const { reply } = this;
    let error = 0;
    reply.begin();
    try {
      yield* this.serveCommand(frame);
    } catch (thrown) {
      error = this.errorOf(thrown);
    }
    if (!frame.noReply) this.sendReply(frame, error);
    this.host.monitor?.exchange(frame, error, reply);
    for (const fd of reply.takeFds()) fd.close();
    if (this.session === null) this.close(new Errno('EPROTO', 'the handshake failed'));
  }

  private *serveCommand(frame: Frame): Task {
    if (this.session === null) {
      this.session = yield* agree(this.host, this, this.vdev, this.connection, frame, this.reply);
      this.host.loop.cancel(this.handshake);
      if (!this.connection.isOpen) this.session.close();
    } else if (frame.command === VFIO_USER_VERSION) throw new Errno('EINVAL', 'a second VERSION');
    else yield* serveRequest(this.session, frame, this.reply);
  }

  private sendReply(frame: Frame, error: number): void {
    const { message, payloadBytes, fds } = this.reply;
    writeHeader(message.view, frame.id, frame.command, payloadBytes, VFIO_USER_F_TYPE_REPLY, error);
    this.connection.send(message, VFIO_USER_HEADER_SIZE + payloadBytes, fds);
  }

  private log(level: LogLevel, cause: string, text: string): void {
    const { name } = this.vdev.pdev;
    this.host.log(`${name}: ${text}`, { level, cause, client: `${name}, process ${this.peerPid}` });
  }

  usage(): LimitUse[] {
    const of = `${this.vdev.pdev.name}, process ${this.peerPid}`;
    return [...(this.session?.regions.usage(of) ?? []), ...this.queue.usage(of)];
  }

  private onClose(why: Error | null): void {
    if (why !== null) this.host.monitor?.dropped(this.peerPid, why.message);
    if (why !== null) this.log('warn', 'dropped', `client dropped: ${why.message}`);
    this.host.loop.cancel(this.handshake);
    this.session?.close();
    this.queue.close();
    // Let a request under way end first, then the session.
    if (this.busy) runner.run(this.drained.wake());
    else runner.start(`end of a client of ${this.vdev.pdev.name}`, this.end());
  }

  private *end(): Task {
    if (this.session !== null) yield* this.session.end();
    this.host.onEnd(this);
    this.session?.hangUp();
    this.connection.hangUp();
  }
}
