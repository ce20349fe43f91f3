/**
 * VFIO_DEVICE_SET_IRQS, and the delivery of interrupts to a user's eventfds (vfio_pci_intrs.c). Each kind has a file in
 * irqs/. Only one of INTx, MSI and MSI-X is enabled at a time.
 */
import { Errno } from '../abi/errno.ts';
import {
  PCI_CAP_ID_MSI,
  PCI_INTERRUPT_PIN,
  PCI_MSI_FLAGS,
  PCI_MSI_FLAGS_QMASK,
  PCI_MSIX_ENTRY_SIZE,
} from '../abi/pci_regs.ts';
import {
  VFIO_IRQ_INFO_AUTOMASKED,
  VFIO_IRQ_INFO_EVENTFD,
  VFIO_IRQ_INFO_MASKABLE,
  VFIO_IRQ_INFO_NORESIZE,
  VFIO_IRQ_SET_ACTION_TRIGGER,
  VFIO_IRQ_SET_ACTION_TYPE_MASK,
  VFIO_PCI_ERR_IRQ_INDEX,
  VFIO_PCI_INTX_IRQ_INDEX,
  VFIO_PCI_MSI_IRQ_INDEX,
  VFIO_PCI_MSIX_IRQ_INDEX,
  VFIO_PCI_NUM_IRQS,
  VFIO_PCI_REQ_IRQ_INDEX,
} from '../abi/vfio.ts';
import type { PciFunction } from '../pci/function.ts';
import { type LockClass, Mutex } from '../task/lock.ts';
import type { Task } from '../task/op.ts';
import { Intx } from './irqs/intx.ts';
import { IrqData, noAction } from './irqs/irq-data.ts';
import { MessageInterrupts } from './irqs/message.ts';
import { findMsixTable, type MsixTable } from './irqs/msix-table.ts';
import { Notice } from './irqs/notice.ts';
import type { Profile } from './profile.ts';
import type { Caller } from './user.ts';

/** Outside memory_lock. */
const IGATE_LOCK_CLASS: LockClass = { name: 'vfio_pci_core_device.igate' };

export interface IrqInfo {
  index: number;
  flags: number;
  count: number;
}

export class Interrupts {
  /** Guards the user's choices; taken by SET_IRQS and by close. */
  private readonly igate = new Mutex(IGATE_LOCK_CLASS);
  private readonly pdev: PciFunction;
  private readonly intx: Intx;
  private readonly msi: MessageInterrupts;
  private readonly msix: MessageInterrupts;
  /** Reports an uncorrectable error of the device. Models here report none: only a user's own test signals it. */
  private readonly err = new Notice(VFIO_PCI_ERR_IRQ_INDEX);
  private readonly req = new Notice(VFIO_PCI_REQ_IRQ_INDEX);
  private table: MsixTable | null | undefined;

  constructor(pdev: PciFunction, profile: Profile) {
    this.pdev = pdev;
    this.intx = new Intx(() => this.locked(() => this.intx.unmask()));
    this.msi = new MessageInterrupts(VFIO_PCI_MSI_IRQ_INDEX, pdev, profile);
    this.msix = new MessageInterrupts(VFIO_PCI_MSIX_IRQ_INDEX, pdev, profile);
    pdev.interrupts = {
      msi: (vector) => {
        this.msi.onMessage(vector);
        this.msix.onMessage(vector);
      },
      intx: (level) => this.intx.onLevel(level),
    };
  }

  get isMsiActive(): boolean {
    return this.msi.isActive;
  }

  /** The vectors that MSI was last enabled with, as a power of two; 0 before that. */
  get msiQmax(): number {
    return this.msi.queueMax;
  }

  /** 0 where the function has no interrupt pin. */
  get intxPin(): number {
    return this.pdev.isVirtfn ? 0 : this.pdev.config.read(PCI_INTERRUPT_PIN, 1);
  }

  /** The place of the MSI-X table; null without one. Looked up once, since every access to a BAR needs it. */
  get msixTable(): MsixTable | null {
    if (this.table === undefined) this.table = findMsixTable(this.pdev.config);
    return this.table;
  }

  /** VFIO_DEVICE_GET_IRQ_INFO. EINVAL for an index that PCI devices do not have. */
  irqInfo(index: number): IrqInfo {
    const count = this.count(index);
    let flags = VFIO_IRQ_INFO_EVENTFD;
    if (index === VFIO_PCI_INTX_IRQ_INDEX) flags |= VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED;
    // Single vectors come and go where the function has MSI-X.
    else if (index !== VFIO_PCI_MSIX_IRQ_INDEX || this.msixTable === null) flags |= VFIO_IRQ_INFO_NORESIZE;
    return { index, flags, count };
  }

  /**
   * VFIO_DEVICE_SET_IRQS. EINVAL for invalid flags, index or range, ENOTTY for an action that the index does not have,
   * EBADF for a descriptor that is not open.
   */
  *setIrqs(flags: number, index: number, start: number, count: number, bytes: Uint8Array, caller: Caller): Task {
    const data = new IrqData(flags, this.count(index), start, count, bytes);
    const action = flags & VFIO_IRQ_SET_ACTION_TYPE_MASK;
    yield* this.igate.lock();
    try {
      if (index === VFIO_PCI_INTX_IRQ_INDEX) {
        this.intx.set(action, data, caller, !this.msi.isActive && !this.msix.isActive);
      } else if (action !== VFIO_IRQ_SET_ACTION_TRIGGER) {
        throw noAction(index, action);
      } else if (index === VFIO_PCI_MSI_IRQ_INDEX) {
        yield* this.msi.set(data, caller, !this.intx.isActive && !this.msix.isActive);
      } else if (index === VFIO_PCI_MSIX_IRQ_INDEX) {
        yield* this.msix.set(data, caller, !this.intx.isActive && !this.msi.isActive);
      } else {
        (index === VFIO_PCI_ERR_IRQ_INDEX ? this.err : this.req).set(data, caller);
      }
    } finally {
      yield* this.igate.unlock();
    }
  }

  /** Close: no eventfd is signalled any more. */
  *disableAll(): Task {
    yield* this.igate.lock();
    yield* this.msi.disable();
    yield* this.msix.disable();
    this.intx.disable();
    this.err.release();
    this.req.release();
    yield* this.igate.unlock();
  }

  /** The user set or cleared COMMAND.INTX_DISABLE, which vfio emulates by masking. */
  setIntxDisable(disabled: boolean): Task {
    return this.locked(() => this.intx.setDisabled(disabled));
  }

  /** Tells the user of an error of PCI Express. */
  reportError(): void {
    this.err.signal();
  }

  /** vfio_pci_core_request: asks the user to close the device, since the driver must let go of it. */
  requestDevice(): void {
    this.req.signal();
  }

  private *locked(action: () => void): Task {
    yield* this.igate.lock();
    action();
    yield* this.igate.unlock();
  }

  /** How many interrupts an index has. EINVAL for one that PCI devices do not have. */
  private count(index: number): number {
    switch (index) {
      case VFIO_PCI_INTX_IRQ_INDEX:
        return this.intxPin === 0 ? 0 : 1;
      case VFIO_PCI_MSI_IRQ_INDEX: {
        const at = this.pdev.config.find(PCI_CAP_ID_MSI);
        return at === 0 ? 0 : 1 << ((this.pdev.config.read(at + PCI_MSI_FLAGS, 2) & PCI_MSI_FLAGS_QMASK) >> 1);
      }
      case VFIO_PCI_MSIX_IRQ_INDEX:
        return (this.msixTable?.sizeBytes ?? 0) / PCI_MSIX_ENTRY_SIZE;
      case VFIO_PCI_ERR_IRQ_INDEX:
      case VFIO_PCI_REQ_IRQ_INDEX:
        return 1;
      default:
        throw new Errno('EINVAL', `${this.pdev.name} has no interrupt index ${index}, of ${VFIO_PCI_NUM_IRQS}`);
    }
  }
}
