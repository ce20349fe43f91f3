/**
 * One channel of the I/OAT engine: its registers (abi/ioat.ts), and the work that a write of DMACOUNT starts. The work
 * is a chain of descriptors in host memory. The channel takes one after the other until it has done as many as DMACOUNT
 * says.
 *
 * The datasheets leave these points open; here: every error halts the channel. Data that cannot be read or written (an
 * IOMMU fault, an unsupported request, bus mastering off) is a read or write data error. A failed fetch of a chain's
 * first descriptor is a chain address error, of a later one a next address error. An interrupt that comes due while the
 * channel waits for its re-arm is raised by the re-arm. A write of CHAINADDR while a chain is under way does not begin
 * another.
 */
import { Errno } from '../../abi/errno.ts';
import {
  IOAT_CHANCMD_RESET,
  IOAT_CHANCMD_RESUME,
  IOAT_CHANCMD_SUSPEND,
  IOAT_CHANCTRL_ERR_COMPLETION_EN,
  IOAT_CHANCTRL_ERR_INT_EN,
  IOAT_CHANCTRL_INT_REARM,
  IOAT_CHANERR_CHAIN_ADDR_VALUE_ERR,
  IOAT_CHANERR_CHANCMD_ERR,
  IOAT_CHANERR_COMPLETION_ADDR_ERR,
  IOAT_CHANERR_NEXT_ADDR_ERR,
  IOAT_CHANERR_NEXT_DESC_ALIGN_ERR,
  IOAT_CHANNEL_MMIO_SIZE,
  IOAT_CHANSTS_ACTIVE,
  IOAT_CHANSTS_DONE,
  IOAT_CHANSTS_HALTED,
  IOAT_CHANSTS_SUSPENDED,
  IOAT_DESC_CTL_COMPL_WRITE,
  IOAT_DESC_CTL_INT_EN,
  IOAT_DESCRIPTOR_ALIGN,
  IOAT_DMA_COMP_V2,
  ioat_dma_descriptor,
} from '../../abi/ioat.ts';
import { viewOf } from '../../abi/layout.ts';
import type { PciFunction } from '../../pci/function.ts';
import { Cell } from '../../task/cell.ts';
import type { Task } from '../../task/op.ts';
import { spawnBeside } from '../../task/runner.ts';
import { CHANNEL_REGISTERS, type ChannelRegister, savedChannel } from './channel-registers.ts';
import { DescriptorCopier } from './copy.ts';
import { type Descriptor, decodeDescriptor } from './descriptor.ts';
import { RegisterFile, type RegisterPart } from './registers.ts';

const COUNT_MASK = 0xffff;
const DESCRIPTOR_MASK = BigInt(IOAT_DESCRIPTOR_ALIGN - 1);

/** The channel's calls to its device; they are synchronous. */
export interface ChannelHost {
  readonly fn: PciFunction;
  /** The channel raises an interrupt. */
  interrupt(channel: number): void;
  /** The channel halts with these bits of CHANERR. */
  error(bits: number): void;
}

export class IoatChannel {
  private readonly index: number;
  private readonly host: ChannelHost;
  private readonly registers = new RegisterFile(CHANNEL_REGISTERS, IOAT_CHANNEL_MMIO_SIZE);
  /** CHANCTRL.INT_REARM: an interrupt was raised, and the next must wait until software has cleared the bit. */
  private isMasked = false;
  private readonly fetched = new Uint8Array(ioat_dma_descriptor.sizeof);
  private readonly fetchedView = new DataView(this.fetched.buffer);
  private readonly status = new Uint8Array(8);
  private readonly statusView = new DataView(this.status.buffer);
  private state = IOAT_CHANSTS_HALTED;
  /** Addresses of the last descriptor that is done, of the one under way, and of the next one. */
  private completed = 0n;
  private current = 0n;
  private next = 0n;
  /** Descriptors done since CHAINADDR was written, 16 bits as DMACOUNT has. */
  private done = 0;
  /** A task of `work` is under way. It checks for commands between its steps. */
  private busy = false;
  private suspended = false;
  private resetting = false;
  private interruptIsDue = false;
  /** While set, no descriptor is begun. Software does not see a difference. */
  private readonly quiesced = new Cell('ioat_channel.quiesced', false);
  /** Tasks of `work` that have not ended, including those that a reset overtook. */
  private readonly working = new Cell('ioat_channel.working', 0);
  /**
   * The number of the current task of `work`. A new task or a reset changes it, and older tasks then end without a
   * trace.
   */
  private run = 0;

  constructor(index: number, host: ChannelHost) {
    this.index = index;
    this.host = host;
    this.powerOn();
  }

  /** Resets the channel with the function. The task under way notices and ends by itself. */
  powerOn(): void {
    this.run += 1;
    this.busy = false;
    this.registers.bytes.fill(0);
    this.clear();
  }

  /** Stops after the descriptor under way. The owner of the memory that the descriptor reaches ends this wait. */
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
      registers: this.shown(),
      completed: this.completed,
      current: this.current,
      next: this.next,
      done: this.done,
      state: this.state,
      suspended: this.suspended ? 1 : 0,
      interruptIsDue: this.interruptIsDue ? 1 : 0,
    });
  }

  /** Restores the state that `save` returned, here or on another machine. EINVAL for a state that cannot occur. */
  load(saved: Uint8Array): void {
    const view = viewOf(saved);
    const { fields } = savedChannel;
    const state = fields.state.get(view);
    if (state > IOAT_CHANSTS_HALTED) throw new Errno('EINVAL', `an I/OAT channel in state ${state}`);
    this.registers.bytes.set(fields.registers.get(view));
    this.isMasked = (this.registers.get('CHANCTRL') & IOAT_CHANCTRL_INT_REARM) !== 0;
    this.completed = fields.completed.getBig(view);
    this.current = fields.current.getBig(view);
    this.next = fields.next.getBig(view);
    this.done = fields.done.get(view);
    this.state = state;
    this.suspended = fields.suspended.get(view) !== 0;
    this.interruptIsDue = fields.interruptIsDue.get(view) !== 0;
  }

  /** Continues where SUSPEND stopped. It is a doorbell, since repeating it has the same meaning. */
  resumeChain(): void {
    this.command(IOAT_CHANCMD_RESUME);
  }

  read(offset: number, into: Uint8Array): void {
    this.shown();
    this.registers.read(offset, into);
  }

  /** Returns the registers, including those that follow from the channel's state. */
  private shown(): Uint8Array {
    const { registers } = this;
    const control = registers.get('CHANCTRL') & ~IOAT_CHANCTRL_INT_REARM;
    registers.set('CHANCTRL', control | (this.isMasked ? IOAT_CHANCTRL_INT_REARM : 0));
    registers.set('CHANCMD', this.resetting ? IOAT_CHANCMD_RESET : 0);
    registers.set64('CHANSTS', this.completed | BigInt(this.state));
    registers.set64('CDAR', this.current);
    return registers.bytes;
  }

  write(offset: number, from: Uint8Array): void {
    this.registers.write(offset, from, (part) => this.onWrite(part));
  }

  private onWrite({ name, at, bytes }: RegisterPart<ChannelRegister>): void {
    if (name === 'CHANCMD') this.command(bytes[0]);
    else if (name === 'CHAINADDR' && !this.busy) this.beginChain();
    else if (name === 'DMACOUNT') this.kick();
    else if (name === 'CHANCTRL' && at === 0 && (bytes[0] & IOAT_CHANCTRL_INT_REARM) !== 0) {
      this.isMasked = false;
      if (this.interruptIsDue) this.raise();
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

  /** Resets the channel: it is halted and knows no chain. Its enables for interrupts and aborts stay. */
  private clear(): void {
    const control = this.registers.get('CHANCTRL');
    this.registers.bytes.fill(0);
    this.registers.set('CHANCTRL', control);
    this.registers.set('DMA_COMP', IOAT_DMA_COMP_V2);
    this.isMasked = false;
    this.current = 0n;
    this.beginChain();
    this.resetting = false;
    this.interruptIsDue = false;
    this.state = IOAT_CHANSTS_HALTED;
  }

  private beginChain(): void {
    this.registers.set('DMACOUNT', 0);
    this.next = this.registers.get64('CHAINADDR');
    this.done = 0;
    this.completed = 0n;
    this.suspended = false;
  }

  /** Rings the doorbell. The work is a task of its own, which the serving loop runs after it has answered the write. */
  private kick(): void {
    if (this.busy || this.suspended || this.isDone || this.registers.get('CHANERR') !== 0) return;
    this.busy = true;
    this.state = IOAT_CHANSTS_ACTIVE;
    this.run += 1;
    spawnBeside(`${this.host.fn.name} channel ${this.index}`, this.work(this.run));
  }

  private get isDone(): boolean {
    return this.registers.get('DMACOUNT') === this.done;
  }

  /** Takes descriptors until all are done or one fails; checks for commands in between. Ends by itself. */
  private *work(run: number): Task {
    const goesOn = (): Task<boolean> => this.goesOn(run);
    const copier = new DescriptorCopier(this.host.fn, goesOn);
    yield* this.working.update((count) => count + 1);
    for (;;) {
      yield* this.host.fn.registersLook();
      if (!this.isCurrent(run) || !this.busy) break;
      if (yield* this.quiesced.load()) {
        this.busy = false;
        break;
      }
      const error = yield* this.takeDescriptor(goesOn, copier);
      if (error !== 0 && (yield* goesOn())) yield* this.fail(error, goesOn);
      if (copier.endDescriptor()) yield* copier.giveWay();
    }
    if (run === this.run && this.resetting) {
      this.busy = false;
      this.clear();
    }
    yield* this.working.update((count) => count - 1);
  }

  /**
   * Whether task `run` is still the channel's current one. Checked in a step of its own, together with the registers
   * that a reset changes.
   */
  private *goesOn(run: number): Task<boolean> {
    yield* this.host.fn.registersLook();
    return this.isCurrent(run);
  }

  private isCurrent(run: number): boolean {
    return run === this.run && !this.resetting;
  }

  /** Fetches, copies, completes and interrupts. Returns bits of CHANERR; stops early where `goesOn` returns false. */
  private *takeDescriptor(goesOn: () => Task<boolean>, copier: DescriptorCopier): Task<number> {
    const isFirst = this.completed === 0n;
    if ((this.next & DESCRIPTOR_MASK) !== 0n) {
      return isFirst ? IOAT_CHANERR_CHAIN_ADDR_VALUE_ERR : IOAT_CHANERR_NEXT_DESC_ALIGN_ERR;
    }
    this.current = this.next;
    const { fn } = this.host;
    let fetched = fn.dmaReadNow(Number(this.current), this.fetched);
    if (fetched === null) {
      fetched = yield* fn.dmaRead(Number(this.current), this.fetched);
      if (!(yield* goesOn())) return 0;
    }
    if (fetched !== 'ok') return isFirst ? IOAT_CHANERR_CHAIN_ADDR_VALUE_ERR : IOAT_CHANERR_NEXT_ADDR_ERR;
    const descriptor = decodeDescriptor(this.fetchedView);
    if (typeof descriptor === 'number') return descriptor;
    const moved = copier.copyNow(descriptor);
    if (moved < descriptor.sizeBytes) {
      const error = yield* copier.copy(descriptor, moved);
      // `copy` itself only asked whether it may go on with its next piece.
      if (error !== 0 || !(yield* goesOn())) return error;
    }
    this.advance(descriptor);
    if ((descriptor.control & IOAT_DESC_CTL_COMPL_WRITE) !== 0) {
      const isWritten = yield* this.writeStatus(this.isDone ? IOAT_CHANSTS_DONE : IOAT_CHANSTS_ACTIVE);
      if (!(yield* goesOn())) return 0;
      if (!isWritten) return IOAT_CHANERR_COMPLETION_ADDR_ERR;
    }
    this.finish(descriptor);
    return 0;
  }

  private advance(descriptor: Descriptor): void {
    this.completed = this.current;
    this.next = descriptor.next;
    this.done = (this.done + 1) & COUNT_MASK;
  }

  /**
   * Ends the descriptor before software is told, so that software may start the next chain at once. More descriptors
   * may have been added while the completion was written.
   */
  private finish({ control }: Descriptor): void {
    if (this.isDone || this.suspended) this.rest();
    if ((control & IOAT_DESC_CTL_INT_EN) !== 0) this.raise();
  }

  private rest(): void {
    this.busy = false;
    this.state = this.suspended ? IOAT_CHANSTS_SUSPENDED : IOAT_CHANSTS_DONE;
  }

  private *fail(error: number, goesOn: () => Task<boolean>): Task {
    this.state = IOAT_CHANSTS_HALTED;
    this.report(error);
    if ((this.registers.get('CHANCTRL') & IOAT_CHANCTRL_ERR_COMPLETION_EN) === 0) return this.halt(error);
    const written = yield* this.writeStatus(IOAT_CHANSTS_HALTED);
    if (yield* goesOn()) this.halt(written ? error : error | IOAT_CHANERR_COMPLETION_ADDR_ERR);
  }

  private halt(bits: number): void {
    this.busy = false;
    this.state = IOAT_CHANSTS_HALTED;
    this.report(bits);
    const raises = (this.registers.get('CHANCTRL') & IOAT_CHANCTRL_ERR_INT_EN) !== 0;
    if (raises && (bits & ~this.registers.get('CHANERR_MASK')) !== 0) this.raise();
  }

  private report(bits: number): void {
    this.registers.set('CHANERR', this.registers.get('CHANERR') | bits);
    this.host.error(bits);
  }

  /** Writes CHANSTS to the address in CHANCMP; false where that address does not answer. */
  private *writeStatus(state: number): Task<boolean> {
    this.statusView.setBigUint64(0, this.completed | BigInt(state), true);
    const address = Number(this.registers.get64('CHANCMP'));
    return (yield* this.host.fn.dmaWrite(address, this.status)) === 'ok';
  }

  private raise(): void {
    this.interruptIsDue = this.isMasked;
    if (this.isMasked) return;
    this.isMasked = true;
    this.host.interrupt(this.index);
  }
}
