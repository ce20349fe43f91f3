/** MSI or MSI-X: vectors, each with an eventfd or none. The first eventfd enables the hardware. */
import { Errno } from '../../abi/errno.ts';
import { VFIO_PCI_MSI_IRQ_INDEX } from '../../abi/vfio.ts';
import type { PciFunction } from '../../pci/function.ts';
import { disableMsi, enableMsi } from '../../pci/msi.ts';
import type { Task } from '../../task/op.ts';
import type { Profile } from '../profile.ts';
import type { Caller, EventSignal } from '../user.ts';
import type { IrqData } from './irq-data.ts';

/** Guarded by the igate. */
export class MessageInterrupts {
  isActive = false;
  /** The number of vectors at the last enabling, as a power of two; 0 before the first. */
  queueMax = 0;
  private readonly kind: 'msi' | 'msix';
  private readonly pdev: PciFunction;
  private readonly profile: Profile;
  private triggers: (EventSignal | null)[] = [];
  /** The number of vectors that it was enabled with. */
  private vectors = 0;

  constructor(index: number, pdev: PciFunction, profile: Profile) {
    this.kind = index === VFIO_PCI_MSI_IRQ_INDEX ? 'msi' : 'msix';
    this.pdev = pdev;
    this.profile = profile;
  }

  /** EINVAL unless it is enabled, or can be. `isFree`: no other kind is enabled. */
  *set(data: IrqData, caller: Caller, isFree: boolean): Task {
    if (this.isActive && data.disables) return yield* this.disable();
    if (!(this.isActive || isFree)) {
      throw new Errno('EINVAL', `another kind of interrupt of ${this.pdev.name} is enabled; disable it first`);
    }
    if (data.isEventfd) return yield* this.setEvents(data, caller);
    if (!this.isActive) throw new Errno('EINVAL', `${this.kind} of ${this.pdev.name} is not enabled`);
    for (let i = 0; i < data.count; i++) if (data.chooses(i)) this.triggers[data.start + i]?.signal();
  }

  /** The device sends a message. */
  onMessage(vector: number): void {
    if (this.isActive) this.triggers[vector]?.signal();
  }

  *disable(): Task {
    if (!this.isActive) return;
    this.isActive = false;
    for (const trigger of this.triggers) trigger?.release?.();
    this.triggers = [];
    yield* disableMsi(this.pdev, this.kind);
  }

  private *setEvents(data: IrqData, caller: Caller): Task {
    const { name, powerState } = this.pdev;
    if (!this.isActive && powerState.value !== 0) throw new Errno('EINVAL', `${name} is in D${powerState.value}`);
    const events = this.lookUpEvents(data, caller);
    if (!this.isActive) {
      this.isActive = true;
      this.triggers = [];
      this.vectors = data.start + data.count;
      this.queueMax = Math.ceil(Math.log2(this.vectors));
      yield* enableMsi(this.pdev, this.kind);
    }
    for (const [i, event] of events.entries()) {
      this.triggers[data.start + i]?.release?.();
      this.triggers[data.start + i] = event;
    }
  }

  /**
   * Looks up the events of a block of vectors before anything changes: a bad one leaves everything as it was. Linux
   * goes vector by vector. On an error it drops those that it has set, and the events that they had before.
   */
  private lookUpEvents(data: IrqData, caller: Caller): (EventSignal | null)[] {
    const events: (EventSignal | null)[] = [];
    try {
      for (let i = 0; i < data.count; i++) {
        const event = data.event(i, caller);
        events.push(event);
        // VFIO_IRQ_INFO_NORESIZE: MSI keeps the vectors that it was enabled with.
        const isFixed = this.isActive && this.kind === 'msi';
        if (event !== null && isFixed && data.start + i >= this.vectors) {
          throw new Errno('EINVAL', `MSI is enabled with ${this.vectors} vectors, and has no ${data.start + i}`);
        }
      }
      return events;
    } catch (error) {
      for (const event of events) event?.release?.();
      if (this.isActive && !this.profile.irqsAllOrNone) this.drop(data.start, data.start + events.length);
      throw error;
    }
  }

  private drop(first: number, last: number): void {
    for (let vector = first; vector <= last; vector++) {
      this.triggers[vector]?.release?.();
      this.triggers[vector] = null;
    }
  }
}
