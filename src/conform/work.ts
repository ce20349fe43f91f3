/** A device at work: a driver makes it do DMA to the memory of a client, by messages or by descriptor. */
import { POLLIN } from '../abi/poll.ts';
import { VFIO_USER_DEVICE_SET_IRQS, VFIO_USER_DMA_MAP } from '../abi/vfio-user.ts';
import type { OwnedFd } from '../linux/fd.ts';
import { Mapping } from '../linux/mapping.ts';
import { pollOne } from '../linux/poll.ts';
import type { DeviceDriver } from './drivers/driver.ts';
import { PROPOSAL } from './facts.ts';
import { type DmaAnswer, TrialMemory } from './memory.ts';
import type { RawPeer } from './peer.ts';
import * as request from './requests.ts';
import type { Trial } from './trial.ts';
import { HANGS, needs, Outcome } from './verdict.ts';

export const BASE = 0x100_0000;
export const SIZE = 65536;
const SCRATCH = BASE + 0x8000;
/** What lies where nothing was written. */
export const FILL = 0xee;

export interface WorkOptions {
  /** Memory by descriptor instead of messages. */
  file?: boolean;
  /** Of DMA_MAP. */
  flags?: number;
  proposal?: object;
  isMaster?: boolean;
  answer?: DmaAnswer;
}

/** A device at work for a client. */
export class DeviceWork {
  readonly peer: RawPeer;
  readonly memory: TrialMemory;
  readonly interrupt: OwnedFd;
  readonly driver: DeviceDriver;
  private readonly trial: Trial;
  private readonly options: WorkOptions;

  constructor(trial: Trial, options: WorkOptions = {}) {
    const { driver } = trial;
    needs(driver !== null, 'no driver of the kit knows the device');
    this.trial = trial;
    this.driver = driver;
    this.options = options;
    this.peer = trial.agreed(options.proposal ?? PROPOSAL);
    const file = options.file === true ? trial.memfd(SIZE) : null;
    this.memory = new TrialMemory(BASE, file === null ? Buffer.alloc(SIZE) : this.mapped(file));
    this.memory.bytes.fill(FILL);
    this.memory.answer = options.answer ?? null;
    this.peer.onCommand = this.memory.onCommand;
    const fds = file === null ? [] : [file.fd];
    const map = request.dmaMap({ addr: BASE, size: SIZE, flags: options.flags ?? 3 });
    this.peer.ok(VFIO_USER_DMA_MAP, map, { fds });
    this.interrupt = trial.eventfd();
    const assign = request.setIrqs({ flags: request.TRIGGER_FD, index: driver.irqIndex });
    this.peer.ok(VFIO_USER_DEVICE_SET_IRQS, assign, { fds: [this.interrupt.fd] });
  }

  private mapped({ fd }: OwnedFd): Uint8Array {
    const mapping = Mapping.map({ fd, offset: 0, sizeBytes: SIZE, writable: true, what: 'memory of the client' });
    this.trial.onClose(() => mapping.unmap());
    return mapping.bytes;
  }

  start(): void {
    const isMaster = this.options.isMaster ?? true;
    this.driver.start(this.peer, this.memory, { target: BASE, scratch: SCRATCH, isMaster });
  }

  get target(): Buffer {
    return this.memory.at(BASE, this.driver.sizeBytes);
  }

  get isWritten(): boolean {
    return this.target[0] !== FILL && this.target.at(-1) !== FILL;
  }

  /** Answers the device until `isDone`; false where nothing more comes. */
  until(isDone: () => boolean, waitMs = this.trial.timeoutMs + this.driver.settleMs): boolean {
    const deadline = performance.now() + waitMs;
    while (!isDone()) {
      const leftMs = deadline - performance.now();
      if (leftMs <= 0) return false;
      // A command of the device may have come together with a reply, and is then in the peer's buffer.
      if (!this.peer.hasMessage() && pollOne(this.peer.socket.fd, POLLIN, Math.min(leftMs, 2)) === 0) continue;
      const message = this.peer.next('DMA of the device');
      if (message === null) return isDone();
      if (!message.isReply) this.memory.onCommand(this.peer, message);
    }
    return true;
  }

  demandWritten(what: string): void {
    if (!this.until(() => this.isWritten)) throw new Outcome(HANGS, `${what}: the device's write does not come`);
    this.untilQuiet(this.driver.lingerMs ?? 0);
  }

  /** Answers the device until nothing has come for so long. */
  private untilQuiet(quietMs: number): void {
    const { seen } = this.memory;
    let before: number;
    do {
      before = seen.length;
      this.until(() => false, quietMs);
    } while (seen.length > before);
  }

  /** Gives the device time to do what it should not. */
  settle(): void {
    this.until(() => false, this.driver.settleMs);
  }
}

/** The bytes that came by one command. */
export function bytesOf(work: DeviceWork, command: number): number {
  return work.memory.seen.filter((seen) => seen.command === command).reduce((sum, { count }) => sum + count, 0);
}
