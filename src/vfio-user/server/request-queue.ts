/** Requests of one client that wait behind the one under way. */

import { limitHit } from '../../vfio/limit-hits.ts';
import { type Frame, LIMITS } from '../wire/frame.ts';
import type { LimitUse } from '../wire/limit-use.ts';

/** Reading resumes when the queue is down to this part of its limits. */
const LOW_WATER = 1 / 4;

export class RequestQueue {
  private readonly frames: Frame[] = [];
  private bytes = 0;
  private fds = 0;

  /** Whether reading should stop. */
  get isFull(): boolean {
    return this.isAbove(1);
  }

  /** Whether reading may go on. */
  get hasRoom(): boolean {
    return !this.isAbove(LOW_WATER);
  }

  usage(of: string): LimitUse[] {
    return [
      { limit: 'maxPendingRequests', of, used: this.frames.length, most: LIMITS.maxPendingRequests },
      { limit: 'maxPendingBytes', of, used: this.bytes, most: LIMITS.maxPendingBytes },
      { limit: 'maxPendingFds', of, used: this.fds, most: LIMITS.maxPendingFds },
    ];
  }

  /** Reports the limits that stop the reading. */
  countHits(): void {
    for (const { limit, used, most } of this.usage('')) if (used >= most) limitHit(limit);
  }

  push({ id, command, isReply, noReply, error, fds, payload, arrivedMs }: Frame): void {
    // Buffer.from copies. The payload's memory is received into again.
    this.frames.push({ id, command, isReply, noReply, error, fds, payload: Buffer.from(payload), arrivedMs });
    this.bytes += payload.length;
    this.fds += fds.length;
  }

  shift(): Frame | undefined {
    const next = this.frames.shift();
    if (next !== undefined) {
      this.bytes -= next.payload.length;
      this.fds -= next.fds.length;
    }
    return next;
  }

  /** Drops all requests. */
  close(): void {
    for (let frame = this.shift(); frame !== undefined; frame = this.shift()) for (const fd of frame.fds) fd.close();
  }

  private isAbove(part: number): boolean {
    return (
      this.frames.length >= LIMITS.maxPendingRequests * part ||
      this.bytes >= LIMITS.maxPendingBytes * part ||
      this.fds >= LIMITS.maxPendingFds * part
    );
  }
}
