/** The level interrupt at INTA#: delivery masks it, and an unmask delivers it again while the line is high. */
import { Errno } from '../../abi/errno.ts';
import {
  VFIO_IRQ_SET_ACTION_MASK,
  VFIO_IRQ_SET_ACTION_TRIGGER,
  VFIO_IRQ_SET_ACTION_UNMASK,
  VFIO_PCI_INTX_IRQ_INDEX,
} from '../../abi/vfio.ts';
import type { Task } from '../../task/op.ts';
import type { Caller, EventSignal, EventSource } from '../user.ts';
import { type IrqData, noAction } from './irq-data.ts';

/** Guarded by the igate, except the level, which the device drives. */
export class Intx {
  isActive = false;
  private trigger: EventSignal | null = null;
  private unmaskEvent: EventSource | null = null;
  private masked = false;
  private asserted = false;
  /** COMMAND.INTX_DISABLE as the user wrote it. */
  private disabled = false;
  /** Starts when the user signals the unmask eventfd: takes the igate, and calls `unmask`. */
  private readonly onUnmaskEvent: () => Task;

  constructor(onUnmaskEvent: () => Task) {
    this.onUnmaskEvent = onUnmaskEvent;
  }

  /** EINVAL where INTx is not in the state that the action needs. `isFree`: no other kind is enabled. */
  set(action: number, data: IrqData, caller: Caller, isFree: boolean): void {
    if (action === VFIO_IRQ_SET_ACTION_TRIGGER) this.setTrigger(data, caller, isFree);
    else if (action === VFIO_IRQ_SET_ACTION_MASK || action === VFIO_IRQ_SET_ACTION_UNMASK) {
      this.setMask(action === VFIO_IRQ_SET_ACTION_MASK, data, caller);
    } else throw noAction(VFIO_PCI_INTX_IRQ_INDEX, action);
  }

  unmask(): void {
    this.masked = false;
    this.deliver();
  }

  setDisabled(disabled: boolean): void {
    this.disabled = disabled;
    this.deliver();
  }

  /** The device drives its line. */
  onLevel(level: boolean): void {
    this.asserted = level;
    this.deliver();
  }

  disable(): void {
    if (!this.isActive) return;
    this.isActive = false;
    this.trigger?.release?.();
    this.trigger = null;
    this.unmaskEvent?.release();
    this.unmaskEvent = null;
  }

  private setTrigger(data: IrqData, caller: Caller, isFree: boolean): void {
    if (this.isActive && data.disables) {
      this.disable();
      return;
    }
    if (!(this.isActive || isFree) || data.start !== 0 || data.count !== 1) {
      throw new Errno('EINVAL', 'INTx is one interrupt, and alone');
    }
    if (data.isEventfd) {
      const event = data.event(0, caller);
      if (this.isActive) this.trigger?.release?.();
      else this.masked = false;
      this.isActive = true;
      this.trigger = event;
      this.deliver();
      return;
    }
    if (!this.isActive) throw new Errno('EINVAL', 'INTx is not enabled');
    if (data.chooses(0)) this.trigger?.signal();
  }

  private setMask(masks: boolean, data: IrqData, caller: Caller): void {
    if (!this.isActive || data.start !== 0 || data.count !== 1) {
      throw new Errno('EINVAL', 'INTx can be masked only while it is enabled');
    }
    if (data.isEventfd) {
      if (masks) throw new Errno('ENOTTY', 'INTx has no eventfd that masks');
      const fd = data.fd(0);
      const source = fd < 0 ? null : caller.eventSource(fd, this.onUnmaskEvent);
      this.unmaskEvent?.release();
      this.unmaskEvent = source;
      return;
    }
    if (!data.chooses(0)) return;
    this.masked = masks;
    this.deliver();
  }

  private deliver(): void {
    if (!this.isActive || this.masked || this.disabled || !this.asserted) return;
    this.masked = true;
    this.trigger?.signal();
  }
}
