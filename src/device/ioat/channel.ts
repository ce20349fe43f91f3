/**
 * One channel of the I/OAT engine: its commands, and the work that a write of DMACOUNT starts. The work is a chain of
 * descriptors in host memory. The channel takes one after the other until it has done as many as DMACOUNT says.
 * channel-state.ts has its registers and its place in the chain.
 *
 * The datasheets leave these points open; here: every error halts the channel. Data that cannot be read or written (an
 * IOMMU fault, an unsupported request, bus mastering off) is a read or write data error. A failed fetch of a chain's
 * first descriptor is a chain address error, of a later one a next address error. An interrupt that comes due while the
 * channel waits for its re-arm is raised by the re-arm. A write of CHAINADDR while a chain is under way does not begin
 * another.
 */
import {
  IOAT_CHANCMD_RESET,
  IOAT_CHANCMD_RESUME,
  IOAT_CHANCMD_SUSPEND,
  IOAT_CHANCTRL_ERR_COMPLETION_EN,
  IOAT_CHANCTRL_INT_REARM,
  IOAT_CHANERR_CHAIN_ADDR_VALUE_ERR,
  IOAT_CHANERR_CHANCMD_ERR,
  IOAT_CHANERR_COMPLETION_ADDR_ERR,
  IOAT_CHANERR_NEXT_ADDR_ERR,
  IOAT_CHANERR_NEXT_DESC_ALIGN_ERR,
  IOAT_CHANSTS_ACTIVE,
  IOAT_CHANSTS_DONE,
  IOAT_CHANSTS_HALTED,
  IOAT_DESC_CTL_COMPL_WRITE,
  IOAT_DESC_CTL_INT_EN,
  IOAT_DESCRIPTOR_ALIGN,
  ioat_dma_descriptor,
} from '../../abi/ioat.ts';
import { Cell } from '../../task/cell.ts';
import type { Task } from '../../task/op.ts';
import { spawnBeside } from '../../task/runner.ts';
import type { RegisterPart } from '../registers.ts';
import type { ChannelRegister } from './channel-registers.ts';
import { type ChannelHost, ChannelState } from './channel-state.ts';
import { DescriptorCopier } from './copy.ts';
import { type Descriptor, decodeDescriptor } from './descriptor.ts';

const DESCRIPTOR_MASK = BigInt(IOAT_DESCRIPTOR_ALIGN - 1);

export class IoatChannel {
  readonly state: ChannelState;
  private readonly index: number;
  private readonly host: ChannelHost;
  private readonly fetched = new Uint8Array(ioat_dma_descriptor.sizeof);
  private readonly fetchedView = new DataView(this.fetched.buffer);
  /** The bytes of a completion write. */
  private readonly completion = new Uint8Array(8);
  private readonly completionView = new DataView(this.completion.buffer);
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
    this.state = new ChannelState(index, host);
  }

  /** Resets the channel with the function. The task under way notices and ends by itself. */
  powerOn(): void {
    this.run += 1;
    this.state.powerOn();
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

  /** Continues where SUSPEND stopped. It is a doorbell, since repeating it has the same meaning. */
  resumeChain(): void {
    this.command(IOAT_CHANCMD_RESUME);
  }

  write(offset: number, from: Uint8Array): void {
    this.state.registers.write(offset, from, (part) => this.onWrite(part));
  }

  private onWrite({ name, at, bytes }: RegisterPart<ChannelRegister>): void {
    const { state } = this;
    if (name === 'CHANCMD') this.command(bytes[0]);
    else if (name === 'CHAINADDR' && !state.busy) state.beginChain();
    else if (name === 'DMACOUNT') this.kick();
    else if (name === 'CHANCTRL' && at === 0 && (bytes[0] & IOAT_CHANCTRL_INT_REARM) !== 0) state.rearm();
  }

  private command(bits: number): void {
    const { state } = this;
    if (state.resetting) return;
    if ((bits & (bits - 1)) !== 0) {
      this.run += 1;
      state.halt(IOAT_CHANERR_CHANCMD_ERR);
    } else if (bits === IOAT_CHANCMD_RESET) {
      if (state.busy) state.resetting = true;
      else state.clear();
    } else if (bits === IOAT_CHANCMD_SUSPEND && state.status !== IOAT_CHANSTS_HALTED) {
      state.suspended = true;
      if (!state.busy) state.rest();
    } else if (bits === IOAT_CHANCMD_RESUME && state.suspended) {
      state.suspended = false;
      if (!state.busy) state.rest();
      this.kick();
    }
  }

  /** Rings the doorbell. The work is a task of its own, which the serving loop runs after it has answered the write. */
  private kick(): void {
    const { state } = this;
    if (state.busy || state.suspended || state.isDone || state.registers.get('CHANERR') !== 0) return;
    state.busy = true;
    state.status = IOAT_CHANSTS_ACTIVE;
    this.run += 1;
    spawnBeside(`${this.host.fn.name} channel ${this.index}`, this.work(this.run));
  }

  /** Takes descriptors until all are done or one fails; checks for commands in between. Ends by itself. */
  private *work(run: number): Task {
    const { state } = this;
    const goesOn = (): Task<boolean> => this.goesOn(run);
    const copier = new DescriptorCopier(this.host.fn, goesOn);
    yield* this.working.update((count) => count + 1);
    for (;;) {
      yield* this.host.fn.registersLook();
      if (!this.isCurrent(run) || !state.busy) break;
      if (yield* this.quiesced.load()) {
        state.busy = false;
        break;
      }
      const error = yield* this.takeDescriptor(goesOn, copier);
      if (error !== 0 && (yield* goesOn())) yield* this.fail(error, goesOn);
      if (copier.endDescriptor()) yield* copier.giveWay();
    }
    if (run === this.run && state.resetting) {
      state.busy = false;
      state.clear();
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
    return run === this.run && !this.state.resetting;
  }

  /** Fetches, copies, completes and interrupts. Returns bits of CHANERR; stops early where `goesOn` returns false. */
  private *takeDescriptor(goesOn: () => Task<boolean>, copier: DescriptorCopier): Task<number> {
    const { state } = this;
    const isFirst = state.completed === 0n;
    if ((state.next & DESCRIPTOR_MASK) !== 0n) {
      return isFirst ? IOAT_CHANERR_CHAIN_ADDR_VALUE_ERR : IOAT_CHANERR_NEXT_DESC_ALIGN_ERR;
    }
    state.current = state.next;
    const { fn } = this.host;
    let fetched = fn.dmaReadNow(Number(state.current), this.fetched);
    if (fetched === null) {
      fetched = yield* fn.dmaRead(Number(state.current), this.fetched);
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
    state.advance(descriptor.next);
    if ((descriptor.control & IOAT_DESC_CTL_COMPL_WRITE) !== 0) {
      const isWritten = yield* this.writeStatus(state.isDone ? IOAT_CHANSTS_DONE : IOAT_CHANSTS_ACTIVE);
      if (!(yield* goesOn())) return 0;
      if (!isWritten) return IOAT_CHANERR_COMPLETION_ADDR_ERR;
    }
    this.finish(descriptor);
    return 0;
  }

  /**
   * Ends the descriptor before software is told, so that software may start the next chain at once. More descriptors
   * may have been added while the completion was written.
   */
  private finish({ control }: Descriptor): void {
    const { state } = this;
    if (state.isDone || state.suspended) state.rest();
    if ((control & IOAT_DESC_CTL_INT_EN) !== 0) state.raise();
  }

  private *fail(error: number, goesOn: () => Task<boolean>): Task {
    const { state } = this;
    state.status = IOAT_CHANSTS_HALTED;
    state.report(error);
    if ((state.registers.get('CHANCTRL') & IOAT_CHANCTRL_ERR_COMPLETION_EN) === 0) return state.halt(error);
    const written = yield* this.writeStatus(IOAT_CHANSTS_HALTED);
    if (yield* goesOn()) state.halt(written ? error : error | IOAT_CHANERR_COMPLETION_ADDR_ERR);
  }

  /** Writes CHANSTS to the address in CHANCMP; false where that address does not answer. */
  private *writeStatus(status: number): Task<boolean> {
    const { state } = this;
    this.completionView.setBigUint64(0, state.completed | BigInt(status), true);
    const address = Number(state.registers.get64('CHANCMP'));
    return (yield* this.host.fn.dmaWrite(address, this.completion)) === 'ok';
  }
}
