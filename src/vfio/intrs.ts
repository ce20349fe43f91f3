/** VFIO_DEVICE_SET_IRQS and the ways of an interrupt to a user's eventfd (vfio_pci_intrs.c). */
import { Errno } from '../abi/errno.ts';
import {
  PCI_CAP_ID_MSI,
  PCI_CAP_ID_MSIX,
  PCI_INTERRUPT_PIN,
  PCI_MSI_FLAGS,
  PCI_MSI_FLAGS_QMASK,
  PCI_MSIX_FLAGS,
  PCI_MSIX_FLAGS_QSIZE,
  PCI_MSIX_TABLE,
  PCI_MSIX_TABLE_BIR,
} from '../abi/pci_regs.ts';
import {
  VFIO_IRQ_INFO_AUTOMASKED,
  VFIO_IRQ_INFO_EVENTFD,
  VFIO_IRQ_INFO_MASKABLE,
  VFIO_IRQ_INFO_NORESIZE,
  VFIO_IRQ_SET_ACTION_MASK,
  VFIO_IRQ_SET_ACTION_TRIGGER,
  VFIO_IRQ_SET_ACTION_TYPE_MASK,
  VFIO_IRQ_SET_ACTION_UNMASK,
  VFIO_IRQ_SET_DATA_BOOL,
  VFIO_IRQ_SET_DATA_EVENTFD,
  VFIO_IRQ_SET_DATA_NONE,
  VFIO_IRQ_SET_DATA_TYPE_MASK,
  VFIO_PCI_ERR_IRQ_INDEX,
  VFIO_PCI_INTX_IRQ_INDEX,
  VFIO_PCI_MSI_IRQ_INDEX,
  VFIO_PCI_MSIX_IRQ_INDEX,
  VFIO_PCI_NUM_IRQS,
} from '../abi/vfio.ts';
import { type LockClass, Mutex } from '../task/lock.ts';
import type { Task } from '../task/op.ts';
import type { VfioPciCoreDevice } from './core.ts';
import { PCI_D0 } from './pm.ts';
import type { Caller, EventSignal, EventSource } from './user.ts';

/** Outside memory_lock. */
const IGATE_LOCK_CLASS: LockClass = { name: 'vfio_pci_core_device.igate' };

export interface IrqInfo {
  index: number;
  flags: number;
  count: number;
}

/** In bytes from the start of the BAR. */
interface MsixTable {
  barIndex: number;
  offset: number;
  sizeBytes: number;
}

/** What SET_IRQS brought for each vector: an eventfd, "none", or a bool. */
interface IrqData {
  type: number;
  start: number;
  count: number;
  bytes: Uint8Array;
}

export class Interrupts {
  /** Guards everything below; taken by SET_IRQS and by close. */
  private readonly igate = new Mutex(IGATE_LOCK_CLASS);
  private readonly vdev: VfioPciCoreDevice;
  /** Which of INTx, MSI and MSI-X the user enabled; null for none. Only one at a time. */
  activeIndex: number | null = null;
  /** The vectors that MSI was last enabled with, as a power of two; 0 before that. */
  msiQmax = 0;
  private triggers: (EventSignal | null)[] = [];
  /** That MSI or MSI-X was enabled with. */
  private vectors = 0;
  private table: MsixTable | null | undefined;
  private unmaskEvent: EventSource | null = null;
  private errTrigger: EventSignal | null = null;
  private reqTrigger: EventSignal | null = null;
  private intxMasked = false;
  private intxAsserted = false;
  private intxDisabled = false;

  constructor(vdev: VfioPciCoreDevice) {
    this.vdev = vdev;
    vdev.pdev.interrupts = {
      msi: (vector) => this.onMsi(vector),
      intx: (level) => this.onIntx(level),
    };
  }

  /** 0 where the function has no interrupt pin. */
  get intxPin(): number {
    return this.vdev.pdev.isVirtfn ? 0 : this.vdev.pdev.config.read(PCI_INTERRUPT_PIN, 1);
  }

  /** Where the MSI-X table lies; null without one. Looked up once: every access to a BAR asks. */
  get msixTable(): MsixTable | null {
    if (this.table === undefined) this.table = this.findMsixTable();
    return this.table;
  }

  private findMsixTable(): MsixTable | null {
    const config = this.vdev.pdev.config;
    const at = config.find(PCI_CAP_ID_MSIX);
    if (at === 0) return null;
    const table = config.read(at + PCI_MSIX_TABLE, 4);
    const offset = (table & ~PCI_MSIX_TABLE_BIR) >>> 0;
    return { barIndex: table & PCI_MSIX_TABLE_BIR, offset, sizeBytes: this.count(VFIO_PCI_MSIX_IRQ_INDEX) * 16 };
  }

  /** VFIO_DEVICE_GET_IRQ_INFO. EINVAL for an index that the device does not have. */
  irqInfo(index: number): IrqInfo {
    if (index < 0 || index >= VFIO_PCI_NUM_IRQS) {
      throw new Errno('EINVAL', `${this.vdev.pdev.name} has no interrupt index ${index}`);
    }
    let flags = VFIO_IRQ_INFO_EVENTFD;
    if (index === VFIO_PCI_INTX_IRQ_INDEX) flags |= VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED;
    // Single vectors come and go where the function has MSI-X.
    else if (index !== VFIO_PCI_MSIX_IRQ_INDEX || this.msixTable === null) flags |= VFIO_IRQ_INFO_NORESIZE;
    return { index, flags, count: this.count(index) };
  }

  /**
   * VFIO_DEVICE_SET_IRQS. EINVAL for flags, index or range that make no sense, ENOTTY for an action that the index does
   * not have, EBADF for a descriptor that is no eventfd.
   */
  *setIrqs(flags: number, index: number, start: number, count: number, bytes: Uint8Array, caller: Caller): Task {
    const data = this.validate(flags, index, start, count, bytes);
    yield* this.igate.lock();
    try {
      const action = flags & VFIO_IRQ_SET_ACTION_TYPE_MASK;
      if (index === VFIO_PCI_INTX_IRQ_INDEX) this.setIntx(action, data, caller);
      else if (index === VFIO_PCI_MSI_IRQ_INDEX || index === VFIO_PCI_MSIX_IRQ_INDEX) {
        if (action !== VFIO_IRQ_SET_ACTION_TRIGGER) throw noAction(index, action);
        yield* this.setMsi(index, data, caller);
      } else {
        if (action !== VFIO_IRQ_SET_ACTION_TRIGGER) throw noAction(index, action);
        this.setSingle(index, data, caller);
      }
    } finally {
      yield* this.igate.unlock();
    }
  }

  /** Close: nobody hears of an interrupt any more. */
  *disableAll(): Task {
    yield* this.igate.lock();
    yield* this.disableMsi();
    this.disableIntx();
    this.errTrigger?.release?.();
    this.reqTrigger?.release?.();
    this.errTrigger = null;
    this.reqTrigger = null;
    yield* this.igate.unlock();
  }

  /** The user set or cleared COMMAND.INTX_DISABLE, which vfio emulates by masking. */
  *setIntxDisable(disabled: boolean): Task {
    yield* this.igate.lock();
    this.intxDisabled = disabled;
    this.deliverIntx();
    yield* this.igate.unlock();
  }

  /** AER: an uncorrectable error of the device. */
  signalError(): void {
    this.errTrigger?.signal();
  }

  /** The driver wants its device back: asks the user to close it. */
  signalRequest(): void {
    this.reqTrigger?.signal();
  }

  private count(index: number): number {
    const config = this.vdev.pdev.config;
    switch (index) {
      case VFIO_PCI_INTX_IRQ_INDEX:
        return this.intxPin === 0 ? 0 : 1;
      case VFIO_PCI_MSI_IRQ_INDEX: {
        const at = config.find(PCI_CAP_ID_MSI);
        return at === 0 ? 0 : 1 << ((config.read(at + PCI_MSI_FLAGS, 2) & PCI_MSI_FLAGS_QMASK) >> 1);
      }
      case VFIO_PCI_MSIX_IRQ_INDEX: {
        const at = config.find(PCI_CAP_ID_MSIX);
        return at === 0 ? 0 : (config.read(at + PCI_MSIX_FLAGS, 2) & PCI_MSIX_FLAGS_QSIZE) + 1;
      }
      default:
        return 1;
    }
  }

  /** vfio_set_irqs_validate_and_prepare. */
  private validate(flags: number, index: number, start: number, count: number, bytes: Uint8Array): IrqData {
    const type = flags & VFIO_IRQ_SET_DATA_TYPE_MASK;
    const known = VFIO_IRQ_SET_DATA_TYPE_MASK | VFIO_IRQ_SET_ACTION_TYPE_MASK;
    const max = index >= 0 && index < VFIO_PCI_NUM_IRQS ? this.count(index) : -1;
    if ((flags & ~known) !== 0 || max < 0) throw new Errno('EINVAL', `SET_IRQS flags ${flags}, index ${index}`);
    if (start >= max + (count === 0 ? 1 : 0) || start + count > max) {
      throw new Errno('EINVAL', `SET_IRQS ${start}+${count} of ${max} interrupts at index ${index}`);
    }
    const width = type === VFIO_IRQ_SET_DATA_NONE ? 0 : type === VFIO_IRQ_SET_DATA_BOOL ? 1 : 4;
    if (width === 4 && type !== VFIO_IRQ_SET_DATA_EVENTFD) throw new Errno('EINVAL', `SET_IRQS data type ${type}`);
    if (bytes.length < count * width) {
      throw new Errno('EINVAL', `SET_IRQS brings ${bytes.length} bytes for ${count} interrupts of ${width}`);
    }
    return { type, start, count, bytes };
  }

  private setIntx(action: number, data: IrqData, caller: Caller): void {
    if (action === VFIO_IRQ_SET_ACTION_TRIGGER) {
      this.triggerIntx(data, caller);
      return;
    }
    if (action !== VFIO_IRQ_SET_ACTION_MASK && action !== VFIO_IRQ_SET_ACTION_UNMASK) {
      throw noAction(VFIO_PCI_INTX_IRQ_INDEX, action);
    }
    if (this.activeIndex !== VFIO_PCI_INTX_IRQ_INDEX || data.start !== 0 || data.count !== 1) {
      throw new Errno('EINVAL', 'INTx can be masked only while it is enabled');
    }
    const masks = action === VFIO_IRQ_SET_ACTION_MASK;
    if (data.type === VFIO_IRQ_SET_DATA_EVENTFD) {
      if (masks) throw new Errno('ENOTTY', 'INTx has no eventfd that masks');
      const fd = eventFd(data, 0);
      const source = fd < 0 ? null : caller.eventSource(fd, () => this.unmaskIntx());
      this.unmaskEvent?.release();
      this.unmaskEvent = source;
      return;
    }
    if (data.type === VFIO_IRQ_SET_DATA_BOOL && data.bytes[0] === 0) return;
    this.intxMasked = masks;
    this.deliverIntx();
  }

  private triggerIntx(data: IrqData, caller: Caller): void {
    const active = this.activeIndex === VFIO_PCI_INTX_IRQ_INDEX;
    if (active && data.count === 0 && data.type === VFIO_IRQ_SET_DATA_NONE) {
      this.disableIntx();
      return;
    }
    if (!(active || this.activeIndex === null) || data.start !== 0 || data.count !== 1) {
      throw new Errno('EINVAL', 'INTx is one interrupt, and alone');
    }
    if (data.type === VFIO_IRQ_SET_DATA_EVENTFD) {
      const event = eventAt(data, 0, caller);
      if (active) this.triggers[0]?.release?.();
      this.activeIndex = VFIO_PCI_INTX_IRQ_INDEX;
      this.triggers = [event];
      if (!active) this.intxMasked = false;
      this.deliverIntx();
      return;
    }
    if (!active) throw new Errno('EINVAL', 'INTx is not enabled');
    if (data.type === VFIO_IRQ_SET_DATA_NONE || data.bytes[0] !== 0) this.triggers[0]?.signal();
  }

  private *setMsi(index: number, data: IrqData, caller: Caller): Task {
    const active = this.activeIndex === index;
    if (active && data.count === 0 && data.type === VFIO_IRQ_SET_DATA_NONE) return yield* this.disableMsi();
    if (!(active || this.activeIndex === null)) {
      throw new Errno('EINVAL', `interrupt index ${this.activeIndex} is enabled; disable it first`);
    }
    if (data.type === VFIO_IRQ_SET_DATA_EVENTFD) return yield* this.setMsiEvents(index, data, caller, active);
    if (!active) throw new Errno('EINVAL', `interrupt index ${index} is not enabled`);
    for (let i = 0; i < data.count; i++) {
      if (data.type === VFIO_IRQ_SET_DATA_NONE || data.bytes[i] !== 0) this.triggers[data.start + i]?.signal();
    }
  }

  private *setMsiEvents(index: number, data: IrqData, caller: Caller, active: boolean): Task {
    const { name, powerState } = this.vdev.pdev;
    if (!active && powerState.value !== PCI_D0) throw new Errno('EINVAL', `${name} is in D${powerState.value}`);
    const events = this.lookUpEvents(index, data, caller, active);
    if (!active) {
      this.activeIndex = index;
      this.triggers = [];
      this.vectors = data.start + data.count;
      if (index === VFIO_PCI_MSI_IRQ_INDEX) this.msiQmax = Math.ceil(Math.log2(data.start + data.count));
      yield* this.vdev.pdev.enableMsi(index === VFIO_PCI_MSIX_IRQ_INDEX ? 'msix' : 'msi', data.start + data.count);
    }
    for (const [i, event] of events.entries()) {
      this.triggers[data.start + i]?.release?.();
      this.triggers[data.start + i] = event;
    }
  }

  /**
   * The events of a block of vectors, all of them before anything changes: a bad one leaves everything as it was. Linux
   * goes vector by vector, and takes those back that it has set, with what was there before.
   */
  private lookUpEvents(index: number, data: IrqData, caller: Caller, active: boolean): (EventSignal | null)[] {
    const events: (EventSignal | null)[] = [];
    try {
      for (let i = 0; i < data.count; i++) {
        const event = eventAt(data, i, caller);
        events.push(event);
        const vector = data.start + i;
        // VFIO_IRQ_INFO_NORESIZE.
        const isFixed = active && index === VFIO_PCI_MSI_IRQ_INDEX;
        if (event !== null && isFixed && vector >= this.vectors) {
          throw new Errno('EINVAL', `MSI is enabled with ${this.vectors} vectors, and has no ${vector}`);
        }
      }
      return events;
    } catch (error) {
      for (const event of events) event?.release?.();
      if (active && !this.vdev.profile.irqsAllOrNone) this.dropVectors(data.start, data.start + events.length);
      throw error;
    }
  }

  private dropVectors(first: number, last: number): void {
    for (let vector = first; vector <= last; vector++) {
      this.triggers[vector]?.release?.();
      this.triggers[vector] = null;
    }
  }

  private *disableMsi(): Task {
    const index = this.activeIndex;
    if (index !== VFIO_PCI_MSI_IRQ_INDEX && index !== VFIO_PCI_MSIX_IRQ_INDEX) return;
    this.dropTriggers();
    yield* this.vdev.pdev.disableMsi(index === VFIO_PCI_MSIX_IRQ_INDEX ? 'msix' : 'msi');
  }

  private disableIntx(): void {
    if (this.activeIndex !== VFIO_PCI_INTX_IRQ_INDEX) return;
    this.dropTriggers();
    this.unmaskEvent?.release();
    this.unmaskEvent = null;
  }

  private dropTriggers(): void {
    for (const trigger of this.triggers) trigger?.release?.();
    this.triggers = [];
    this.activeIndex = null;
  }

  private setSingle(index: number, data: IrqData, caller: Caller): void {
    const isError = index === VFIO_PCI_ERR_IRQ_INDEX;
    const trigger = isError ? this.errTrigger : this.reqTrigger;
    if (data.type === VFIO_IRQ_SET_DATA_EVENTFD) {
      if (data.start !== 0 || data.count !== 1) throw new Errno('EINVAL', `index ${index} has one interrupt`);
      const fd = eventFd(data, 0);
      if (fd < -1) throw new Errno('EINVAL', `descriptor ${fd} for the interrupt of index ${index}`);
      const event = eventAt(data, 0, caller);
      trigger?.release?.();
      if (isError) this.errTrigger = event;
      else this.reqTrigger = event;
      return;
    }
    if (data.type === VFIO_IRQ_SET_DATA_BOOL) {
      if (data.count === 0) throw new Errno('EINVAL', `index ${index}: a bool for no interrupt`);
      if (data.bytes[0] !== 0) trigger?.signal();
      return;
    }
    if (trigger === null) throw new Errno('EINVAL', `index ${index} has no eventfd`);
    if (data.count > 0) {
      trigger.signal();
      return;
    }
    trigger.release?.();
    if (isError) this.errTrigger = null;
    else this.reqTrigger = null;
  }

  /** The user's way to unmask without a call: the end of interrupt of a VMM. */
  private *unmaskIntx(): Task {
    yield* this.igate.lock();
    this.intxMasked = false;
    this.deliverIntx();
    yield* this.igate.unlock();
  }

  private onMsi(vector: number): void {
    if (this.activeIndex === VFIO_PCI_MSI_IRQ_INDEX || this.activeIndex === VFIO_PCI_MSIX_IRQ_INDEX) {
      this.triggers[vector]?.signal();
    }
  }

  private onIntx(level: boolean): void {
    this.intxAsserted = level;
    this.deliverIntx();
  }

  /** A level interrupt is masked as it is delivered, and comes again after the unmask while its cause stands. */
  private deliverIntx(): void {
    if (this.activeIndex !== VFIO_PCI_INTX_IRQ_INDEX || this.intxMasked || this.intxDisabled) return;
    if (!this.intxAsserted) return;
    this.intxMasked = true;
    this.triggers[0]?.signal();
  }
}

function noAction(index: number, action: number): Errno {
  return new Errno('ENOTTY', `interrupt index ${index} has no action 0x${action.toString(16)}`);
}

/** The descriptor for vector `i` of the data; a negative one stands for none. */
function eventFd(data: IrqData, i: number): number {
  const view = new DataView(data.bytes.buffer, data.bytes.byteOffset, data.bytes.byteLength);
  return view.getInt32(4 * i, true);
}

function eventAt(data: IrqData, i: number, caller: Caller): EventSignal | null {
  const fd = eventFd(data, i);
  return fd < 0 ? null : caller.eventSignal(fd);
}
