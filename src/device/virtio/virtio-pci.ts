/**
 * A virtio device on PCI (virtio 1.3, 4.1), without the legacy interface: its BARs, capabilities and interrupts, and a
 * task for each queue. A VirtioModel is the kind of device behind it.
 *
 * A queue's task takes chains, has the model answer them, and gives each back once. A chain that breaks the rules of the
 * queue, or a ring that cannot be reached, stops the device: DEVICE_NEEDS_RESET. A reset by the driver is over, and the
 * status reads 0, once no task touches the driver's memory any more.
 */
import { PCI_CAP_ID_VNDR } from '../../abi/pci_regs.ts';
import {
  PCI_VENDOR_ID_REDHAT_QUMRANET,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_VERSION_1,
  VIRTIO_PCI_MODERN_DEVICE_ID,
  VIRTIO_RING_F_EVENT_IDX,
  VIRTIO_RING_F_INDIRECT_DESC,
} from '../../abi/virtio.ts';
import {
  VIRTIO_PCI_CAP_COMMON_CFG,
  VIRTIO_PCI_CAP_DEVICE_CFG,
  VIRTIO_PCI_CAP_ISR_CFG,
  VIRTIO_PCI_CAP_NOTIFY_CFG,
  VIRTIO_PCI_ISR_CONFIG,
  VIRTIO_PCI_ISR_QUEUE,
  virtio_pci_cap,
  virtio_pci_common_cfg,
  virtio_pci_notify_cap,
} from '../../abi/virtio_pci.ts';
import { Bar, type BarTarget } from '../../pci/bar.ts';
import type { CapabilitySpec } from '../../pci/capabilities.ts';
import type { PciFunction } from '../../pci/function.ts';
import { ArrayMemory } from '../../pci/memory.ts';
import { msixEnabled } from '../../pci/msi.ts';
import { Cell } from '../../task/cell.ts';
import type { Task } from '../../task/op.ts';
import { condResched, spawnBeside } from '../../task/runner.ts';
import type { DeviceIdentity, DeviceModel } from '../model.ts';
import { msixMemory } from '../msix.ts';
import type { Screen } from '../screen.ts';
import { VirtqueueError } from './chain.ts';
import { CommonConfig } from './common-config.ts';
import { CONFIG_WINDOW_CAPABILITY, ConfigWindow } from './config-window.ts';
import { DeviceDma, DmaError, ResetError } from './dma.ts';
import type { QueueWork, VirtioModel } from './model.ts';
import { Virtqueue } from './virtqueue.ts';

/** The BAR of the structures, a page for each. */
const REGISTER_BAR = 4;
const STRUCTURE_BYTES = 0x1000;
const COMMON_OFFSET = 0;
const ISR_OFFSET = STRUCTURE_BYTES;
const DEVICE_OFFSET = 2 * STRUCTURE_BYTES;
const NOTIFY_OFFSET = 3 * STRUCTURE_BYTES;
const REGISTER_BAR_BYTES = 4 * STRUCTURE_BYTES;
const NOTIFY_MULTIPLIER = 4;
const MSIX_BAR = 1;
const MSIX_BAR_BYTES = 0x1000;
const PBA_OFFSET = 0x800;
/** The BARs, for a check that they all get addresses. */
export const VIRTIO_BARS = [
  { kind: 'mem32', sizeBytes: MSIX_BAR_BYTES },
  { kind: 'mem64', sizeBytes: REGISTER_BAR_BYTES },
] as const;
/** Other tasks run after this many chains. */
const TURN_CHAINS = 16;

interface Queue {
  readonly index: number;
  /** Null until the driver has enabled the queue and set DRIVER_OK. */
  ring: Virtqueue | null;
  /** A task takes chains. */
  isBusy: boolean;
  /** The driver has notified since the task last looked for a chain. */
  isKicked: boolean;
}

export class VirtioPciDevice implements DeviceModel {
  readonly identity: DeviceIdentity;
  readonly capabilities: CapabilitySpec;
  readonly model: VirtioModel;
  fn!: PciFunction;
  private readonly config: CommonConfig;
  private readonly queues: Queue[];
  /** Vectors of MSI-X: one for changes of the configuration, and one for each queue. */
  private readonly vectors: number;
  private interruptStatus = 0;
  /** A reset changes it. Tasks of an older run end without a trace. */
  private run = 0;
  private readonly quiesced = new Cell('virtio.quiesced', false);
  /** Tasks that may touch the driver's memory. */
  private readonly working = new Cell('virtio.working', 0);
  /** Gets the reason of each DEVICE_NEEDS_RESET. */
  onBroken: (reason: string) => void = () => {};

  constructor(model: VirtioModel, capabilities: CapabilitySpec) {
    this.model = model;
    const deviceId = VIRTIO_PCI_MODERN_DEVICE_ID + model.type;
    this.identity = {
      vendorId: PCI_VENDOR_ID_REDHAT_QUMRANET,
      deviceId,
      classCode: model.classCode,
      revision: 1,
      subsystemVendorId: PCI_VENDOR_ID_REDHAT_QUMRANET,
      subsystemId: deviceId,
    };
    this.vectors = model.queueSizes.length + 1;
    this.capabilities = {
      ...capabilities,
      msix: { vectors: this.vectors, bar: MSIX_BAR, tableOffset: 0, pbaOffset: PBA_OFFSET },
      vendor: structureCapabilities(model.queueSizes.length, model.readConfig().length),
    };
    const transport = [
      VIRTIO_RING_F_INDIRECT_DESC,
      VIRTIO_RING_F_EVENT_IDX,
      VIRTIO_F_VERSION_1,
      VIRTIO_F_ACCESS_PLATFORM,
    ];
    this.config = new CommonConfig([...model.features, ...transport], model.queueSizes, this.vectors, {
      reset: () => this.resetByDriver(),
      start: () => this.start(),
    });
    this.queues = model.queueSizes.map((_, index) => ({ index, ring: null, isBusy: false, isKicked: false }));
  }

  get screen(): Screen | undefined {
    return this.model.screen;
  }

  bars(): (Bar | null)[] {
    const target: BarTarget = {
      memory: null,
      doorbells: this.queues.map(({ index }) => ({
        offset: NOTIFY_OFFSET + index * NOTIFY_MULTIPLIER,
        sizeBytes: 2,
        datamatch: index,
        ring: () => this.kick(index),
      })),
      read: (offset, into) => this.read(offset, into),
      write: (offset, from) => this.write(offset, from),
    };
    const table = msixMemory(new ArrayMemory(MSIX_BAR_BYTES), this.vectors, 0);
    const registers = new Bar(REGISTER_BAR, 'mem64', true, REGISTER_BAR_BYTES, target);
    const msix = new Bar(MSIX_BAR, 'mem32', false, MSIX_BAR_BYTES, {
      memory: null,
      read: (offset, into) => table.read(offset, into),
      write: (offset, from) => table.write(offset, from),
    });
    return [null, msix, null, null, registers, null];
  }

  bind(fn: PciFunction): void {
    this.fn = fn;
    fn.configModel = new ConfigWindow(fn);
    fn.lifecycle.add({
      onReset: () => this.reset(),
      quiesce: () => this.quiesce(),
      resume: () => this.resume(),
    });
  }

  /** Tells the driver that the device configuration has changed. */
  configChanged(): void {
    this.config.generation += 1;
    if (this.config.isRunning) this.interrupt(this.config.configVector, VIRTIO_PCI_ISR_CONFIG);
  }

  /**
   * Runs work of the device that is not for a chain, such as a reader's request for the screen, in step with resets and
   * `quiesce`. Returns null if the device was reset.
   */
  *beside<T>(body: (work: QueueWork) => Task<T>): Task<T | null> {
    yield* this.beginWork();
    try {
      return yield* body(this.workOf(this.run));
    } catch (error) {
      if (error instanceof ResetError) return null;
      throw error;
    } finally {
      yield* this.endWork();
    }
  }

  private *quiesce(): Task {
    yield* this.quiesced.store(true);
    yield* this.working.waitUntil((count) => count === 0);
  }

  private *resume(): Task {
    yield* this.quiesced.store(false);
    for (const { index } of this.queues) this.kick(index);
  }

  /** All registers as at power on. Tasks under way notice and end by themselves. */
  private reset(): void {
    this.stop();
    this.config.finishReset();
  }

  private resetByDriver(): void {
    this.stop();
    if (this.working.value === 0) this.config.finishReset();
  }

  private stop(): void {
    this.run += 1;
    this.interruptStatus = 0;
    this.driveLine();
    for (const queue of this.queues) {
      queue.ring = null;
      queue.isBusy = false;
    }
    this.model.onReset();
  }

  private start(): void {
    for (const queue of this.queues) {
      const layout = this.config.layoutOf(queue.index);
      queue.ring = layout === null ? null : new Virtqueue(layout);
      this.kick(queue.index);
    }
  }

  /** The driver has made chains available. The work is a task of its own, which runs after the write is answered. */
  private kick(index: number): void {
    const queue = this.queues[index];
    if (queue === undefined || queue.ring === null || !this.config.isRunning) return;
    queue.isKicked = true;
    if (queue.isBusy) return;
    queue.isBusy = true;
    spawnBeside(`${this.fn.name} queue ${index}`, this.work(queue, queue.ring, this.run));
  }

  private *work(queue: Queue, ring: Virtqueue, run: number): Task {
    yield* this.working.update((count) => count + 1);
    try {
      yield* this.takeChains(queue, ring, this.workOf(run));
    } catch (error) {
      if (error instanceof VirtqueueError || error instanceof DmaError) this.break(run, error.message);
      else if (!(error instanceof ResetError)) throw error;
    } finally {
      if (run === this.run) queue.isBusy = false;
      yield* this.endWork();
    }
  }

  private *takeChains(queue: Queue, ring: Virtqueue, work: QueueWork): Task {
    for (let taken = 1; ; taken++) {
      yield* work.dma.check();
      if (!this.config.isRunning || (yield* this.quiesced.load())) return;
      queue.isKicked = false;
      const chain = yield* ring.take(work.dma);
      if (chain === null && queue.isKicked) continue;
      if (chain === null) return;
      const written = yield* this.model.handle(queue.index, chain, work);
      yield* work.dma.check();
      if (yield* ring.give(work.dma, chain, written)) {
        this.interrupt(this.config.vectorOf(queue.index), VIRTIO_PCI_ISR_QUEUE);
      }
      if (taken % TURN_CHAINS === 0) yield* work.giveWay();
    }
  }

  private workOf(run: number): QueueWork {
    const dma = new DeviceDma(this.fn, () => run === this.run);
    return {
      dma,
      *giveWay() {
        yield* condResched();
        yield* dma.check();
      },
      aside: (wait) => this.aside(dma, wait),
    };
  }

  private *aside(dma: DeviceDma, wait: Task): Task {
    yield* this.endWork();
    yield* wait;
    yield* this.beginWork();
    yield* dma.check();
  }

  private *beginWork(): Task {
    yield* this.quiesced.waitUntil((isQuiesced) => !isQuiesced);
    yield* this.working.update((count) => count + 1);
  }

  private *endWork(): Task {
    yield* this.working.update((count) => count - 1);
    if (this.config.isResetting && this.working.value === 0) this.config.finishReset();
  }

  private break(run: number, reason: string): void {
    if (run !== this.run) return;
    this.onBroken(reason);
    if (this.config.needsReset()) this.interrupt(this.config.configVector, VIRTIO_PCI_ISR_CONFIG);
  }

  private interrupt(vector: number, cause: number): void {
    if (msixEnabled(this.fn)) {
      if (vector < this.vectors) this.fn.interrupts?.msi(vector);
      return;
    }
    this.interruptStatus |= cause;
    this.driveLine();
  }

  private driveLine(): void {
    if (this.capabilities.intx === true) this.fn.interrupts?.intx(this.interruptStatus !== 0);
  }

  private read(offset: number, into: Uint8Array): void {
    into.fill(0);
    const inner = offset % STRUCTURE_BYTES;
    if (offset >= NOTIFY_OFFSET) return;
    if (offset >= DEVICE_OFFSET) {
      into.set(this.model.readConfig().subarray(inner, inner + into.length));
    } else if (offset >= ISR_OFFSET) {
      if (inner !== 0 || into.length === 0) return;
      into[0] = this.interruptStatus;
      this.interruptStatus = 0;
      this.driveLine();
    } else if (inner < virtio_pci_common_cfg.sizeof) {
      this.config.read(inner, into.subarray(0, virtio_pci_common_cfg.sizeof - inner));
    }
  }

  private write(offset: number, from: Uint8Array): void {
    const inner = offset % STRUCTURE_BYTES;
    if (offset >= NOTIFY_OFFSET) this.notify(inner);
    else if (offset >= DEVICE_OFFSET) this.model.writeConfig(inner, from);
    else if (offset < ISR_OFFSET) this.config.write(inner, from);
  }

  /** The place tells the queue. The written value says the same. */
  private notify(inner: number): void {
    if (inner % NOTIFY_MULTIPLIER === 0) this.kick(inner / NOTIFY_MULTIPLIER);
  }
}

/** The vendor capabilities that say where the structures are. */
function structureCapabilities(queues: number, configBytes: number): Uint8Array[] {
  const place = (cfg_type: number, offset: number, length: number, cap_len = virtio_pci_cap.sizeof) =>
    virtio_pci_cap.encode({ cap_vndr: PCI_CAP_ID_VNDR, cap_len, cfg_type, bar: REGISTER_BAR, offset, length });
  const doorbells = queues * NOTIFY_MULTIPLIER;
  return [
    place(VIRTIO_PCI_CAP_COMMON_CFG, COMMON_OFFSET, virtio_pci_common_cfg.sizeof),
    place(VIRTIO_PCI_CAP_ISR_CFG, ISR_OFFSET, 1),
    place(VIRTIO_PCI_CAP_DEVICE_CFG, DEVICE_OFFSET, configBytes),
    virtio_pci_notify_cap.encode({
      cap: place(VIRTIO_PCI_CAP_NOTIFY_CFG, NOTIFY_OFFSET, doorbells, virtio_pci_notify_cap.sizeof),
      notify_off_multiplier: NOTIFY_MULTIPLIER,
    }),
    CONFIG_WINDOW_CAPABILITY,
  ];
}
