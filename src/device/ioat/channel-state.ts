/**
 * The registers of a channel (abi/ioat.ts), its place in the chain of descriptors, and its interrupt. Every change here
 * is synchronous; channel.ts has the tasks.
 */
import { Errno } from '../../abi/errno.ts';
import {
  IOAT_CHANCMD_RESET,
  IOAT_CHANCTRL_ERR_INT_EN,
  IOAT_CHANCTRL_INT_REARM,
  IOAT_CHANNEL_MMIO_SIZE,
  IOAT_CHANSTS_DONE,
  IOAT_CHANSTS_HALTED,
  IOAT_CHANSTS_SUSPENDED,
  IOAT_DMA_COMP_V2,
} from '../../abi/ioat.ts';
import { viewOf } from '../../abi/layout.ts';
import type { PciFunction } from '../../pci/function.ts';
import { RegisterFile } from '../registers.ts';
import { CHANNEL_REGISTERS, savedChannel } from './channel-registers.ts';

const COUNT_MASK = 0xffff;

/** The channel's calls to its device; they are synchronous. */
export interface ChannelHost {
  readonly fn: PciFunction;
  /** The channel raises an interrupt. */
  interrupt(channel: number): void;
  /** The channel halts with these bits of CHANERR. */
  error(bits: number): void;
}

export class ChannelState {
  readonly registers = new RegisterFile(CHANNEL_REGISTERS, IOAT_CHANNEL_MMIO_SIZE);
  /** The low bits of CHANSTS. */
  status = IOAT_CHANSTS_HALTED;
  /** Addresses of the last descriptor that is done, of the one under way, and of the next one. */
  completed = 0n;
  current = 0n;
  next = 0n;
  /** A task works on the chain. It checks for commands between its steps. */
  busy = false;
  suspended = false;
  /** A RESET waits until the task under way has noticed it. */
  resetting = false;
  private readonly index: number;
  private readonly host: ChannelHost;
  /** Descriptors done since CHAINADDR was written, 16 bits as DMACOUNT has. */
  private done = 0;
  /** CHANCTRL.INT_REARM: an interrupt was raised, and the next must wait until software has cleared the bit. */
  private isMasked = false;
  private interruptIsDue = false;

  constructor(index: number, host: ChannelHost) {
    this.index = index;
    this.host = host;
    this.powerOn();
  }

  powerOn(): void {
    this.busy = false;
    this.registers.bytes.fill(0);
    this.clear();
  }

  /** Resets the channel: it is halted and knows no chain. Its enables for interrupts and aborts stay. */
  clear(): void {
    const control = this.registers.get('CHANCTRL');
    this.registers.bytes.fill(0);
    this.registers.set('CHANCTRL', control);
    this.registers.set('DMA_COMP', IOAT_DMA_COMP_V2);
    this.isMasked = false;
    this.current = 0n;
    this.beginChain();
    this.resetting = false;
    this.interruptIsDue = false;
    this.status = IOAT_CHANSTS_HALTED;
  }

  beginChain(): void {
    this.registers.set('DMACOUNT', 0);
    this.next = this.registers.get64('CHAINADDR');
    this.done = 0;
    this.completed = 0n;
    this.suspended = false;
  }

  /** Counts the current descriptor as done. */
  advance(next: bigint): void {
    this.completed = this.current;
    this.next = next;
    this.done = (this.done + 1) & COUNT_MASK;
  }

  /** As many descriptors are done as DMACOUNT says. */
  get isDone(): boolean {
    return this.registers.get('DMACOUNT') === this.done;
  }

  rest(): void {
    this.busy = false;
    this.status = this.suspended ? IOAT_CHANSTS_SUSPENDED : IOAT_CHANSTS_DONE;
  }

  halt(errors: number): void {
    this.busy = false;
    this.status = IOAT_CHANSTS_HALTED;
    this.report(errors);
    const raises = (this.registers.get('CHANCTRL') & IOAT_CHANCTRL_ERR_INT_EN) !== 0;
    if (raises && (errors & ~this.registers.get('CHANERR_MASK')) !== 0) this.raise();
  }

  report(errors: number): void {
    this.registers.set('CHANERR', this.registers.get('CHANERR') | errors);
    this.host.error(errors);
  }

  raise(): void {
    this.interruptIsDue = this.isMasked;
    if (this.isMasked) return;
    this.isMasked = true;
    this.host.interrupt(this.index);
  }

  /** Software has taken the last interrupt: the next one may come. */
  rearm(): void {
    this.isMasked = false;
    if (this.interruptIsDue) this.raise();
  }

  read(offset: number, into: Uint8Array): void {
    this.shown();
    this.registers.read(offset, into);
  }

  save(): Uint8Array {
    return savedChannel.encode({
      registers: this.shown(),
      completed: this.completed,
      current: this.current,
      next: this.next,
      done: this.done,
      state: this.status,
      suspended: this.suspended ? 1 : 0,
      interruptIsDue: this.interruptIsDue ? 1 : 0,
    });
  }

  /** Restores the state that `save` returned, here or on another machine. EINVAL for a state that cannot occur. */
  load(saved: Uint8Array): void {
    const view = viewOf(saved);
    const { fields } = savedChannel;
    const status = fields.state.get(view);
    if (status > IOAT_CHANSTS_HALTED) throw new Errno('EINVAL', `an I/OAT channel in state ${status}`);
    this.registers.bytes.set(fields.registers.get(view));
    this.isMasked = (this.registers.get('CHANCTRL') & IOAT_CHANCTRL_INT_REARM) !== 0;
    this.completed = fields.completed.getBig(view);
    this.current = fields.current.getBig(view);
    this.next = fields.next.getBig(view);
    this.done = fields.done.get(view);
    this.status = status;
    this.suspended = fields.suspended.get(view) !== 0;
    this.interruptIsDue = fields.interruptIsDue.get(view) !== 0;
  }

  /** Returns the registers, including those that follow from the rest of the state. */
  private shown(): Uint8Array {
    const { registers } = this;
    const control = registers.get('CHANCTRL') & ~IOAT_CHANCTRL_INT_REARM;
    registers.set('CHANCTRL', control | (this.isMasked ? IOAT_CHANCTRL_INT_REARM : 0));
    registers.set('CHANCMD', this.resetting ? IOAT_CHANCMD_RESET : 0);
    registers.set64('CHANSTS', this.completed | BigInt(this.status));
    registers.set64('CDAR', this.current);
    return registers.bytes;
  }
}
