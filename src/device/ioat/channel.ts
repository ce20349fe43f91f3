/**
 * One channel of the I/OAT engine: its registers (abi/ioat.ts), and the work that a write of DMACOUNT starts: a chain
 * of descriptors in host memory, taken one after the other until as many are done as DMACOUNT says.
 *
 * What the datasheets leave open, decided here: every error halts the channel; data that cannot be read or written
 * (an IOMMU fault, an unsupported request, bus mastering off) is a read or write data error; a chain's first
 * descriptor that cannot be fetched is a chain address error, a later one a next address error; an interrupt that
 * comes due while the channel waits for its re-arm is raised by the re-arm; a write of CHAINADDR while a chain is
 * under way begins no other.
 */
import { Errno } from '../../abi/errno.ts';
import {
  IOAT_CDAR_OFFSET,
  IOAT_CHAINADDR_OFFSET,
  IOAT_CHAN_DMACOUNT_OFFSET,
  IOAT_CHANCMD_OFFSET,
  IOAT_CHANCMD_RESET,
  IOAT_CHANCMD_RESUME,
  IOAT_CHANCMD_SUSPEND,
  IOAT_CHANCMP_OFFSET,
  IOAT_CHANCTRL_ERR_COMPLETION_EN,
  IOAT_CHANCTRL_ERR_INT_EN,
  IOAT_CHANCTRL_INT_REARM,
  IOAT_CHANCTRL_OFFSET,
  IOAT_CHANERR_CHAIN_ADDR_VALUE_ERR,
  IOAT_CHANERR_CHANCMD_ERR,
  IOAT_CHANERR_COMPLETION_ADDR_ERR,
  IOAT_CHANERR_MASK_OFFSET,
  IOAT_CHANERR_NEXT_ADDR_ERR,
  IOAT_CHANERR_NEXT_DESC_ALIGN_ERR,
  IOAT_CHANERR_OFFSET,
  IOAT_CHANNEL_MMIO_SIZE,
  IOAT_CHANSTS_ACTIVE,
  IOAT_CHANSTS_DONE,
  IOAT_CHANSTS_HALTED,
  IOAT_CHANSTS_OFFSET,
  IOAT_CHANSTS_SUSPENDED,
  IOAT_DCACTRL_OFFSET,
  IOAT_DESC_CTL_COMPL_WRITE,
  IOAT_DESC_CTL_INT_EN,
  IOAT_DESCRIPTOR_ALIGN,
  IOAT_DMA_COMP_OFFSET,
  IOAT_DMA_COMP_V2,
  ioat_dma_descriptor,
} from '../../abi/ioat.ts';
import { bytes, packedStruct, u8, u16, u64, viewOf } from '../../abi/layout.ts';
import type { PciFunction } from '../../pci/function.ts';
import { Cell } from '../../task/cell.ts';
import type { Task } from '../../task/op.ts';
import { condResched, spawnBeside } from '../../task/runner.ts';
import { CHUNK_BYTES, copyDescriptor, type Descriptor, decodeDescriptor } from './descriptor.ts';

const COUNT_MASK = 0xffff;

/** What a channel asks of the device that it is part of; called synchronously. */
export interface ChannelHost {
  readonly fn: PciFunction;
  /** The channel has an interrupt to raise. */
  interrupt(channel: number): void;
  /** The channel halts with these bits of CHANERR. */
  error(bits: number): void;
}

/** A channel at rest, as a migration takes it along: its registers, and what they do not show. */
const savedChannel = packedStruct('saved_ioat_channel', IOAT_CHANNEL_MMIO_SIZE + 29, {
  registers: bytes(0, IOAT_CHANNEL_MMIO_SIZE),
  completed: u64(IOAT_CHANNEL_MMIO_SIZE),
  current: u64(IOAT_CHANNEL_MMIO_SIZE + 8),
  next: u64(IOAT_CHANNEL_MMIO_SIZE + 16),
  done: u16(IOAT_CHANNEL_MMIO_SIZE + 24),
  state: u8(IOAT_CHANNEL_MMIO_SIZE + 26),
  suspended: u8(IOAT_CHANNEL_MMIO_SIZE + 27),
  interruptIsDue: u8(IOAT_CHANNEL_MMIO_SIZE + 28),
});
export const SAVED_CHANNEL_BYTES = savedChannel.sizeof;

/** Registers that software writes, with their sizes in bytes. */
const WRITABLE: readonly [offset: number, bytes: number][] = [
  [IOAT_CHANCTRL_OFFSET, 2],
  [IOAT_CHANCMD_OFFSET, 1],
  [IOAT_CHAN_DMACOUNT_OFFSET, 2],
  [IOAT_CHAINADDR_OFFSET, 8],
  [IOAT_CHANCMP_OFFSET, 8],
  [IOAT_CHANERR_OFFSET, 4],
  [IOAT_CHANERR_MASK_OFFSET, 4],
  [IOAT_DCACTRL_OFFSET, 4],
];

export class IoatChannel {
  private readonly index: number;
  private readonly host: ChannelHost;
  private readonly bytes = new Uint8Array(IOAT_CHANNEL_MMIO_SIZE);
  private readonly registers = new DataView(this.bytes.buffer);
  private readonly fetched = new Uint8Array(ioat_dma_descriptor.sizeof);
  private readonly status = new Uint8Array(8);
  /** Where bytes pass; null while a task of `work` has it, which may be one that a reset overtook. */
  private scratch: Uint8Array | null = null;
  private state = IOAT_CHANSTS_HALTED;
  /** Address of the last descriptor that is done, of the one under way, and of the next one. */
  private completed = 0n;
  private current = 0n;
  private next = 0n;
  /** Descriptors done since CHAINADDR was written, 16 bits as DMACOUNT has. */
  private done = 0;
  /** A task of `work` is under way; commands take effect where it looks at them. */
  private busy = false;
  private suspended = false;
  private resetting = false;
  private interruptIsDue = false;
  /** No descriptor is taken up while it is set; nothing that software sees changes by it. */
  private readonly quiesced = new Cell('ioat_channel.held', false);
  /** Tasks of `work` that have not ended, those that a reset overtook included. */
  private readonly working = new Cell('ioat_channel.working', 0);
  /** Counts tasks of `work`, and what ends one without a trace: only the task of this number goes on. */
  private run = 0;

  constructor(index: number, host: ChannelHost) {
    this.index = index;
    this.host = host;
    this.powerOn();
  }

  /** A reset of the function. What is under way finds out and ends by itself. */
  powerOn(): void {
    this.run += 1;
    this.busy = false;
    this.bytes.fill(0);
    this.clear();
  }

  /** Comes to rest behind the descriptor that is under way; whoever owns the memory that it reaches ends the wait. */
  *quiesce(): Task {
    yield* this.quiesced.store(true);
    yield* this.working.waitUntil((count) => count === 0);
  }

  *resume(): Task {
    yield* this.quiesced.store(false);
    this.kick();
  }

  save(): Uint8Array {
    return savedChannel.encode({
      registers: this.bytes,
      completed: this.completed,
      current: this.current,
      next: this.next,
      done: this.done,
      state: this.state,
      suspended: this.suspended ? 1 : 0,
      interruptIsDue: this.interruptIsDue ? 1 : 0,
    });
  }

  /** Puts back what `save` returned, here or on another machine. EINVAL for a state that no channel is in. */
  load(saved: Uint8Array): void {
    const view = viewOf(saved);
    const { fields } = savedChannel;
    const state = fields.state.get(view);
    if (state > IOAT_CHANSTS_HALTED) throw new Errno('EINVAL', `an I/OAT channel in state ${state}`);
    this.bytes.set(fields.registers.get(view));
    this.completed = fields.completed.getBig(view);
    this.current = fields.current.getBig(view);
    this.next = fields.next.getBig(view);
    this.done = fields.done.get(view);
    this.state = state;
    this.suspended = fields.suspended.get(view) !== 0;
    this.interruptIsDue = fields.interruptIsDue.get(view) !== 0;
  }

  /** The command that goes on where SUSPEND stopped: a doorbell, since it says the same however often it comes. */
  resumeChain(): void {
    this.command(IOAT_CHANCMD_RESUME);
  }

  read(offset: number, into: Uint8Array): void {
    this.bytes[IOAT_CHANCMD_OFFSET] = this.resetting ? IOAT_CHANCMD_RESET : 0;
    this.registers.setBigUint64(IOAT_CHANSTS_OFFSET, this.completed | BigInt(this.state), true);
    this.registers.setBigUint64(IOAT_CDAR_OFFSET, this.current, true);
    into.set(this.bytes.subarray(offset, offset + into.length));
  }

  write(offset: number, from: Uint8Array): void {
    for (const [register, bytes] of WRITABLE) {
      const start = Math.max(offset, register);
      const end = Math.min(offset + from.length, register + bytes);
      if (start < end) this.writeRegister(register, start, from.subarray(start - offset, end - offset));
    }
  }

  /** `part` is written at `at`, all of it inside of one register. */
  private writeRegister(register: number, at: number, part: Uint8Array): void {
    if (register === IOAT_CHANCMD_OFFSET) {
      this.command(part[0]);
    } else if (register === IOAT_CHANERR_OFFSET) {
      for (const [i, byte] of part.entries()) this.bytes[at + i] &= ~byte;
    } else if (register === IOAT_CHANCTRL_OFFSET) {
      const isMasked = this.bytes[register] & IOAT_CHANCTRL_INT_REARM;
      this.bytes.set(part, at);
      const rearms = at === register && (part[0] & IOAT_CHANCTRL_INT_REARM) !== 0;
      this.bytes[register] = (this.bytes[register] & ~IOAT_CHANCTRL_INT_REARM) | (rearms ? 0 : isMasked);
      if (rearms && this.interruptIsDue) this.raise();
    } else {
      this.bytes.set(part, at);
      if (register === IOAT_CHAINADDR_OFFSET && !this.busy) this.beginChain();
      if (register === IOAT_CHAN_DMACOUNT_OFFSET) this.kick();
    }
  }

  private command(bits: number): void {
    if (this.resetting) return;
    if ((bits & (bits - 1)) !== 0) {
      this.run += 1;
      this.halt(IOAT_CHANERR_CHANCMD_ERR);
    } else if (bits === IOAT_CHANCMD_RESET) {
      if (this.busy) this.resetting = true;
      else this.clear();
    } else if (bits === IOAT_CHANCMD_SUSPEND && this.state !== IOAT_CHANSTS_HALTED) {
      this.suspended = true;
      if (!this.busy) this.rest();
    } else if (bits === IOAT_CHANCMD_RESUME && this.suspended) {
      this.suspended = false;
      if (!this.busy) this.rest();
      this.kick();
    }
  }

  /** After a reset of the channel: halted, and nothing known of any chain. What interrupts and aborts stays enabled. */
  private clear(): void {
    const control = this.registers.getUint16(IOAT_CHANCTRL_OFFSET, true);
    this.bytes.fill(0);
    this.registers.setUint16(IOAT_CHANCTRL_OFFSET, control & ~IOAT_CHANCTRL_INT_REARM, true);
    this.registers.setUint16(IOAT_DMA_COMP_OFFSET, IOAT_DMA_COMP_V2, true);
    this.current = 0n;
    this.beginChain();
    this.resetting = false;
    this.interruptIsDue = false;
    this.state = IOAT_CHANSTS_HALTED;
  }

  private beginChain(): void {
    this.registers.setUint16(IOAT_CHAN_DMACOUNT_OFFSET, 0, true);
    this.next = this.registers.getBigUint64(IOAT_CHAINADDR_OFFSET, true);
    this.done = 0;
    this.completed = 0n;
    this.suspended = false;
  }

  /** A doorbell: the work is a task of its own, which the serving loop runs when the write is answered. */
  private kick(): void {
    if (this.busy || this.suspended || this.isDone || this.registers.getUint32(IOAT_CHANERR_OFFSET, true) !== 0) return;
    this.busy = true;
    this.state = IOAT_CHANSTS_ACTIVE;
    this.run += 1;
    spawnBeside(`${this.host.fn.name} channel ${this.index}`, this.work(this.run));
  }

  private get isDone(): boolean {
    return this.registers.getUint16(IOAT_CHAN_DMACOUNT_OFFSET, true) === this.done;
  }

  /** Takes descriptors until all are done or one fails; looks at commands in between. Ends by itself. */
  private *work(run: number): Task {
    const goesOn = (): Task<boolean> => this.goesOn(run);
    const scratch = this.scratch ?? new Uint8Array(CHUNK_BYTES);
    this.scratch = null;
    yield* this.working.update((count) => count + 1);
    while ((yield* goesOn()) && this.busy) {
      if (yield* this.quiesced.load()) {
        this.busy = false;
        break;
      }
      const error = yield* this.takeDescriptor(goesOn, scratch);
      if (error !== 0 && (yield* goesOn())) yield* this.fail(error, goesOn);
      yield* condResched();
    }
    if (run === this.run && this.resetting) {
      this.busy = false;
      this.clear();
    }
    this.scratch = scratch;
    yield* this.working.update((count) => count - 1);
  }

  /**
   * Whether the task of that number still is the channel's. Looked at in a step of its own, together with the registers
   * that a reset changes.
   */
  private *goesOn(run: number): Task<boolean> {
    yield* this.host.fn.registersLook();
    return run === this.run && !this.resetting;
  }

  /** Fetch, copy, completion, interrupt. Returns bits of CHANERR; stops early where `goesOn` says no. */
  private *takeDescriptor(goesOn: () => Task<boolean>, scratch: Uint8Array): Task<number> {
    const isFirst = this.completed === 0n;
    if (this.next % BigInt(IOAT_DESCRIPTOR_ALIGN) !== 0n) {
      return isFirst ? IOAT_CHANERR_CHAIN_ADDR_VALUE_ERR : IOAT_CHANERR_NEXT_DESC_ALIGN_ERR;
    }
    this.current = this.next;
    const fetched = yield* this.host.fn.dmaRead(Number(this.current), this.fetched);
    if (!(yield* goesOn())) return 0;
    if (fetched !== 'ok') return isFirst ? IOAT_CHANERR_CHAIN_ADDR_VALUE_ERR : IOAT_CHANERR_NEXT_ADDR_ERR;
    const descriptor = decodeDescriptor(this.fetched);
    if (typeof descriptor === 'number') return descriptor;
    const error = yield* copyDescriptor(this.host.fn, descriptor, scratch, goesOn);
    if (error !== 0 || !(yield* goesOn())) return error;
    return yield* this.complete(descriptor, goesOn);
  }

  /**
   * The channel is at rest before anybody is told, so that who is told may start the next chain. More may have been
   * added while the completion was written.
   */
  private *complete(descriptor: Descriptor, goesOn: () => Task<boolean>): Task<number> {
    this.completed = this.current;
    this.next = descriptor.next;
    this.done = (this.done + 1) & COUNT_MASK;
    if ((descriptor.control & IOAT_DESC_CTL_COMPL_WRITE) !== 0) {
      const written = yield* this.writeStatus(this.isDone ? IOAT_CHANSTS_DONE : IOAT_CHANSTS_ACTIVE);
      if (!(yield* goesOn())) return 0;
      if (!written) return IOAT_CHANERR_COMPLETION_ADDR_ERR;
    }
    if (this.isDone || this.suspended) this.rest();
    if ((descriptor.control & IOAT_DESC_CTL_INT_EN) !== 0) this.raise();
    return 0;
  }

  private rest(): void {
    this.busy = false;
    this.state = this.suspended ? IOAT_CHANSTS_SUSPENDED : IOAT_CHANSTS_DONE;
  }

  private *fail(error: number, goesOn: () => Task<boolean>): Task {
    this.state = IOAT_CHANSTS_HALTED;
    this.report(error);
    const control = this.registers.getUint16(IOAT_CHANCTRL_OFFSET, true);
    if ((control & IOAT_CHANCTRL_ERR_COMPLETION_EN) === 0) return this.halt(error);
    const written = yield* this.writeStatus(IOAT_CHANSTS_HALTED);
    if (yield* goesOn()) this.halt(written ? error : error | IOAT_CHANERR_COMPLETION_ADDR_ERR);
  }

  private halt(bits: number): void {
    this.busy = false;
    this.state = IOAT_CHANSTS_HALTED;
    this.report(bits);
    const control = this.registers.getUint16(IOAT_CHANCTRL_OFFSET, true);
    const masked = this.registers.getUint32(IOAT_CHANERR_MASK_OFFSET, true);
    if ((control & IOAT_CHANCTRL_ERR_INT_EN) !== 0 && (bits & ~masked) !== 0) this.raise();
  }

  private report(bits: number): void {
    const errors = this.registers.getUint32(IOAT_CHANERR_OFFSET, true) | bits;
    this.registers.setUint32(IOAT_CHANERR_OFFSET, errors >>> 0, true);
    this.host.error(bits);
  }

  /** Writes CHANSTS where CHANCMP says; false where nobody takes it. */
  private *writeStatus(state: number): Task<boolean> {
    new DataView(this.status.buffer).setBigUint64(0, this.completed | BigInt(state), true);
    const address = Number(this.registers.getBigUint64(IOAT_CHANCMP_OFFSET, true));
    return (yield* this.host.fn.dmaWrite(address, this.status)) === 'ok';
  }

  private raise(): void {
    const isMasked = (this.bytes[IOAT_CHANCTRL_OFFSET] & IOAT_CHANCTRL_INT_REARM) !== 0;
    this.interruptIsDue = isMasked;
    if (isMasked) return;
    this.bytes[IOAT_CHANCTRL_OFFSET] |= IOAT_CHANCTRL_INT_REARM;
    this.host.interrupt(this.index);
  }
}
