/**
 * The server as others see it: counters, newest messages and events in shared memory. A server without a listener has
 * no monitor, and then pays nothing.
 */
import { ERRNO } from '../../abi/errno.ts';
import { VFIO_USER_HEADER_SIZE } from '../../abi/vfio-user.ts';
import { runner } from '../../task/runner.ts';
import type { VfioPciCoreDevice } from '../../vfio/core.ts';
import { onLimitHit } from '../../vfio/limit-hits.ts';
import type { DoneDma } from '../server/client-memory.ts';
import type { Reply } from '../server/reply.ts';
import { type Frame, ReceivedFrame } from '../wire/frame.ts';
import { Counters } from './counters.ts';
import { EventRing } from './event-ring.ts';
import type { LifeEvent } from './life.ts';
import { MessageRing } from './message-ring.ts';
import { BufferRecorder, Ids, nowMs } from './recorder.ts';

/** What the serving thread and its reader share. */
export interface MonitorMemory {
  readonly counters: SharedArrayBuffer;
  readonly messages: SharedArrayBuffer;
  readonly events: SharedArrayBuffer;
}

const NO_PAYLOADS = { request: new Uint8Array(0), requestAt: 0, reply: new Uint8Array(0), replyAt: 0 };

export class Monitor {
  readonly counters: Counters;
  readonly messages: MessageRing;
  readonly events: EventRing<LifeEvent>;
  private readonly ids = new Ids();
  private devices = 0;

  constructor(memory: MonitorMemory) {
    this.counters = new Counters(0, memory.counters);
    this.messages = new MessageRing(memory.messages);
    this.events = new EventRing(memory.events);
    runner.waiting = new Map();
    onLimitHit((limit) => this.counters.limitHit(limit));
  }

  /** Watches one more device. Devices have the numbers 0, 1, ... in the order of these calls. */
  watch(vdev: VfioPciCoreDevice): DeviceMonitor {
    const monitor = new DeviceMonitor(this, vdev.pdev.name, this.devices++, this.ids);
    vdev.bufferObserver = monitor.buffers;
    return monitor;
  }
}

export class DeviceMonitor {
  readonly buffers: BufferRecorder;
  private readonly monitor: Monitor;
  private readonly name: string;
  private readonly index: number;

  constructor(monitor: Monitor, name: string, index: number, ids: Ids) {
    this.monitor = monitor;
    this.name = name;
    this.index = index;
    this.buffers = new BufferRecorder(name, index, ids, monitor.counters, monitor.events);
  }

  /** Counts a request and its reply. Called before the descriptors of either are closed. */
  exchange(frame: Frame, errno: number, reply: Reply): void {
    const { counters, messages } = this.monitor;
    const { arrivedMs } = frame;
    const ms = performance.now() - arrivedMs;
    // The payload of a received frame would be a new object.
    const isReceived = frame instanceof ReceivedFrame;
    const requestBytes = isReceived ? frame.end - frame.start : frame.payload.length;
    const replyBytes = errno === 0 ? reply.payloadBytes : 0;
    counters.exchange(this.index, frame.command, errno, requestBytes, replyBytes, ms / 1000);
    if (!messages.isWatched || !messages.hasRoom()) return;
    const exchange = {
      atMs: performance.timeOrigin + arrivedMs,
      latencyUs: ms * 1000,
      device: this.index,
      command: frame.command,
      errno,
      requestBytes,
      replyBytes,
      requestFds: frame.fds.length,
      replyFds: reply.fds.length,
    };
    messages.push(exchange, {
      request: isReceived ? frame.received : frame.payload,
      requestAt: isReceived ? frame.start : 0,
      reply: reply.message.bytes,
      replyAt: VFIO_USER_HEADER_SIZE,
    });
  }

  /** Counts a DMA_READ or DMA_WRITE that the client has answered. */
  dma({ command, sizeBytes, ok, ms }: DoneDma): void {
    const { counters, messages } = this.monitor;
    const errno = ok ? 0 : ERRNO.EIO;
    counters.exchange(this.index, command, errno, 0, sizeBytes, ms / 1000);
    if (!messages.isWatched || !messages.hasRoom()) return;
    const counts = { requestBytes: 0, replyBytes: 0, requestFds: 0, replyFds: 0 };
    messages.push(
      { atMs: nowMs() - ms, latencyUs: ms * 1000, device: this.index, command, errno, ...counts },
      NO_PAYLOADS,
    );
  }

  connected(pid: number): void {
    this.monitor.counters.count(this.index, 'clients');
    this.monitor.events.push({ atMs: nowMs(), device: this.name, kind: 'connect', pid });
  }

  left(pid: number): void {
    this.monitor.events.push({ atMs: nowMs(), device: this.name, kind: 'leave', pid });
  }

  dropped(pid: number, why: string): void {
    this.monitor.counters.count(this.index, 'dropped');
    this.monitor.events.push({ atMs: nowMs(), device: this.name, kind: 'drop', pid, why });
  }
}
