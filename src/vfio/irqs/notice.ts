/** ERR and REQ: eventfds by which vfio itself notifies the user. */
import { Errno } from '../../abi/errno.ts';
import type { Caller, EventSignal } from '../user.ts';
import type { IrqData } from './irq-data.ts';

export class Notice {
  private readonly index: number;
  private trigger: EventSignal | null = null;

  constructor(index: number) {
    this.index = index;
  }

  /** Keeps a given eventfd. With a bool or no data, signals the present eventfd, so users can test it. */
  set(data: IrqData, caller: Caller): void {
    if (data.isEventfd) {
      if (data.count !== 1) throw new Errno('EINVAL', `index ${this.index} has one interrupt`);
      const fd = data.fd(0);
      if (fd < -1) throw new Errno('EINVAL', `descriptor ${fd} for the interrupt of index ${this.index}`);
      this.replace(data.event(0, caller));
    } else if (data.isBool) {
      if (data.count === 0) throw new Errno('EINVAL', `index ${this.index}: a bool for no interrupt`);
      if (data.chooses(0)) this.signal();
    } else {
      if (this.trigger === null) throw new Errno('EINVAL', `index ${this.index} has no eventfd`);
      if (data.count > 0) this.signal();
      else this.replace(null);
    }
  }

  signal(): void {
    this.trigger?.signal();
  }

  release(): void {
    this.replace(null);
  }

  private replace(trigger: EventSignal | null): void {
    this.trigger?.release?.();
    this.trigger = trigger;
  }
}
