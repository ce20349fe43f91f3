/** The data of SET_IRQS for each vector: an eventfd, nothing, or a bool. */
import { Errno } from '../../abi/errno.ts';
import {
  VFIO_IRQ_SET_ACTION_TYPE_MASK,
  VFIO_IRQ_SET_DATA_BOOL,
  VFIO_IRQ_SET_DATA_EVENTFD,
  VFIO_IRQ_SET_DATA_NONE,
  VFIO_IRQ_SET_DATA_TYPE_MASK,
} from '../../abi/vfio.ts';
import type { Caller, EventSignal } from '../user.ts';

export class IrqData {
  /** One of the VFIO_IRQ_SET_DATA_ flags. */
  readonly type: number;
  readonly start: number;
  readonly count: number;
  private readonly view: DataView;

  /**
   * vfio_set_irqs_validate_and_prepare, for an index that has `max` interrupts. EINVAL for invalid flags, range or
   * bytes.
   */
  constructor(flags: number, max: number, start: number, count: number, bytes: Uint8Array) {
    this.type = flags & VFIO_IRQ_SET_DATA_TYPE_MASK;
    this.start = start;
    this.count = count;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if ((flags & ~(VFIO_IRQ_SET_DATA_TYPE_MASK | VFIO_IRQ_SET_ACTION_TYPE_MASK)) !== 0) {
      throw new Errno('EINVAL', `SET_IRQS flags 0x${flags.toString(16)}: unknown bits`);
    }
    if (start >= max || start + count > max) {
      throw new Errno('EINVAL', `SET_IRQS ${start}+${count} of ${max} interrupts`);
    }
    const width = widthOf(this.type);
    if (bytes.length < count * width) {
      throw new Errno('EINVAL', `SET_IRQS brings ${bytes.length} bytes for ${count} interrupts of ${width}`);
    }
  }

  get isEventfd(): boolean {
    return this.type === VFIO_IRQ_SET_DATA_EVENTFD;
  }

  get isBool(): boolean {
    return this.type === VFIO_IRQ_SET_DATA_BOOL;
  }

  /** The request that switches an index off. */
  get disables(): boolean {
    return this.type === VFIO_IRQ_SET_DATA_NONE && this.count === 0;
  }

  /** Whether the action applies to interrupt `i` of the block: always without data, else if its bool is set. */
  chooses(i: number): boolean {
    return this.type === VFIO_IRQ_SET_DATA_NONE || this.view.getUint8(i) !== 0;
  }

  /** The descriptor for interrupt `i` of the block; a negative one stands for none. */
  fd(i: number): number {
    return this.view.getInt32(4 * i, true);
  }

  /** The eventfd of interrupt `i` of the block, or null. Errors as the caller's `eventSignal`. */
  event(i: number, caller: Caller): EventSignal | null {
    const fd = this.fd(i);
    return fd < 0 ? null : caller.eventSignal(fd);
  }
}

function widthOf(type: number): number {
  if (type === VFIO_IRQ_SET_DATA_NONE) return 0;
  if (type === VFIO_IRQ_SET_DATA_BOOL) return 1;
  if (type === VFIO_IRQ_SET_DATA_EVENTFD) return 4;
  throw new Errno('EINVAL', `SET_IRQS data type 0x${type.toString(16)}: one of none, bool and eventfd is needed`);
}

/** ENOTTY, for an action that an index does not have. */
export function noAction(index: number, action: number): Errno {
  return new Errno('ENOTTY', `interrupt index ${index} has no action 0x${action.toString(16)}`);
}
