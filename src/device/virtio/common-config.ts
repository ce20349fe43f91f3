/** The common configuration of virtio over PCI (virtio 1.3, 4.1.4.3): registers, features, status, queues. */
import {
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FEATURES_OK,
  VIRTIO_CONFIG_S_NEEDS_RESET,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_VERSION_1,
  VIRTIO_RING_F_EVENT_IDX,
  VIRTIO_RING_F_INDIRECT_DESC,
} from '../../abi/virtio.ts';
import { VIRTIO_MSI_NO_VECTOR, virtio_pci_common_cfg } from '../../abi/virtio_pci.ts';
import { joinAddress } from '../bus-address.ts';
import { type RegisterAccess, RegisterFile, type RegisterMap } from '../registers.ts';
import type { VirtqueueLayout } from './virtqueue.ts';

const { fields } = virtio_pci_common_cfg;
type Name = keyof typeof fields;
const READ_ONLY: readonly Name[] = ['device_feature', 'num_queues', 'config_generation', 'queue_notify_off'];

const REGISTERS = Object.fromEntries(
  Object.entries(fields).map(([name, { offset, size }]) => {
    const access: RegisterAccess = READ_ONLY.includes(name as Name) ? 'read-only' : 'read-write';
    return [name, { offset, bytes: size as 1 | 2 | 4, access }];
  }),
) as Record<Name, { offset: number; bytes: 1 | 2 | 4; access: RegisterAccess }> satisfies RegisterMap;

/** The driver's registers of one queue. */
interface QueueRegisters {
  readonly maxSize: number;
  size: number;
  vector: number;
  isEnabled: boolean;
  /** Descriptor table, available ring, used ring: low and high halves. */
  readonly halves: number[];
}

const HALVES: readonly Name[] = [
  'queue_desc_lo',
  'queue_desc_hi',
  'queue_avail_lo',
  'queue_avail_hi',
  'queue_used_lo',
  'queue_used_hi',
];

/** Called synchronously by writes of the status. */
export interface CommonConfigHost {
  /** The driver wrote 0. The status reads as before until `finishReset`. */
  reset(): void;
  /** The driver set DRIVER_OK. */
  start(): void;
}

export class CommonConfig {
  private readonly file = new RegisterFile(REGISTERS, virtio_pci_common_cfg.sizeof);
  private readonly offered: bigint;
  private readonly vectors: number;
  private readonly host: CommonConfigHost;
  private queues: QueueRegisters[] = [];
  private readonly queueSizes: readonly number[];
  private accepted = 0n;
  private status = 0;
  /** The driver has written 0 to the status, and tasks of the device are still under way. */
  isResetting = false;
  private configVectorValue = VIRTIO_MSI_NO_VECTOR;
  /** Changes with the device configuration, so that a driver notices a change between two reads. */
  generation = 0;

  constructor(features: readonly number[], queueSizes: readonly number[], vectors: number, host: CommonConfigHost) {
    this.offered = features.reduce((bits, bit) => bits | (1n << BigInt(bit)), 0n);
    this.queueSizes = queueSizes;
    this.vectors = vectors;
    this.host = host;
    this.finishReset();
  }

  /** The values after a reset. */
  finishReset(): void {
    this.isResetting = false;
    this.status = 0;
    this.accepted = 0n;
    this.configVectorValue = VIRTIO_MSI_NO_VECTOR;
    this.file.bytes.fill(0);
    this.queues = this.queueSizes.map((maxSize) => ({
      maxSize,
      size: maxSize,
      vector: VIRTIO_MSI_NO_VECTOR,
      isEnabled: false,
      halves: HALVES.map(() => 0),
    }));
  }

  get isRunning(): boolean {
    return (this.status & VIRTIO_CONFIG_S_DRIVER_OK) !== 0 && (this.status & VIRTIO_CONFIG_S_NEEDS_RESET) === 0;
  }

  /** The device stops, and tells the driver. Returns whether the driver must get an interrupt. */
  needsReset(): boolean {
    this.status |= VIRTIO_CONFIG_S_NEEDS_RESET;
    return (this.status & VIRTIO_CONFIG_S_DRIVER_OK) !== 0;
  }

  get configVector(): number {
    return this.configVectorValue;
  }

  vectorOf(queue: number): number {
    return this.queues[queue].vector;
  }

  /** Returns the layout of a queue that the driver has enabled, else null. */
  layoutOf(queue: number): VirtqueueLayout | null {
    const { isEnabled, size, halves } = this.queues[queue];
    if (!isEnabled) return null;
    return {
      size,
      descriptors: joinAddress(halves[0], halves[1]),
      available: joinAddress(halves[2], halves[3]),
      used: joinAddress(halves[4], halves[5]),
      allowsIndirect: this.has(VIRTIO_RING_F_INDIRECT_DESC),
      hasEventIndex: this.has(VIRTIO_RING_F_EVENT_IDX),
    };
  }

  has(feature: number): boolean {
    return (this.accepted & (1n << BigInt(feature))) !== 0n;
  }

  read(offset: number, into: Uint8Array): void {
    this.show();
    this.file.read(offset, into);
  }

  write(offset: number, from: Uint8Array): void {
    this.show();
    this.file.write(offset, from, ({ name }) => {
      this.onWrite(name);
      this.show();
    });
  }

  /** Puts the registers that follow from other state, and those of the selected queue, into the file. */
  private show(): void {
    const { file } = this;
    file.set('device_feature', word(this.offered, file.get('device_feature_select')));
    file.set('guest_feature', word(this.accepted, file.get('guest_feature_select')));
    file.set('msix_config', this.configVectorValue);
    file.set('num_queues', this.queues.length);
    file.set('device_status', this.status);
    file.set('config_generation', this.generation & 0xff);
    const index = file.get('queue_select');
    const queue = this.queues[index];
    file.set('queue_size', queue?.size ?? 0);
    file.set('queue_msix_vector', queue?.vector ?? VIRTIO_MSI_NO_VECTOR);
    file.set('queue_enable', queue?.isEnabled === true ? 1 : 0);
    file.set('queue_notify_off', queue === undefined ? 0 : index);
    for (const [i, name] of HALVES.entries()) file.set(name, queue?.halves[i] ?? 0);
  }

  private onWrite(name: Name): void {
    const value = this.file.get(name);
    if (name === 'device_status') this.writeStatus(value);
    else if (this.isResetting) return;
    else if (name === 'guest_feature') this.accept(this.file.get('guest_feature_select'), value);
    else if (name === 'msix_config') this.configVectorValue = this.vector(value);
    else if (name.startsWith('queue_') && name !== 'queue_select') this.writeQueue(name, value);
  }

  private accept(select: number, value: number): void {
    if (select > 1 || (this.status & VIRTIO_CONFIG_S_FEATURES_OK) !== 0) return;
    const shift = BigInt(32 * select);
    this.accepted = (this.accepted & ~(0xffff_ffffn << shift)) | (BigInt(value) << shift);
  }

  private writeQueue(name: Name, value: number): void {
    const queue = this.queues[this.file.get('queue_select')];
    if (queue === undefined) return;
    if (name === 'queue_msix_vector') queue.vector = this.vector(value);
    // The driver must not change an enabled queue (virtio 1.3, 4.1.4.3.2).
    if (queue.isEnabled) return;
    if (name === 'queue_size' && value <= queue.maxSize && Number.isInteger(Math.log2(value))) queue.size = value;
    if (name === 'queue_enable') queue.isEnabled = value === 1;
    const half = HALVES.indexOf(name);
    if (half >= 0) queue.halves[half] = value;
  }

  /** A vector that the device does not have reads back as none. */
  private vector(value: number): number {
    return value < this.vectors ? value : VIRTIO_MSI_NO_VECTOR;
  }

  private writeStatus(value: number): void {
    if (value === 0) {
      this.isResetting = true;
      this.host.reset();
      return;
    }
    if (this.isResetting) return;
    const before = this.status;
    // Drivers only add bits. NEEDS_RESET is the device's.
    this.status |= value & ~VIRTIO_CONFIG_S_NEEDS_RESET;
    const isAccepted = (before & VIRTIO_CONFIG_S_FEATURES_OK) !== 0 || this.acceptsFeatures();
    if (!isAccepted) this.status &= ~(VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK);
    if ((before & VIRTIO_CONFIG_S_DRIVER_OK) === 0 && this.isRunning) this.host.start();
  }

  /** A driver must take what the device cannot do without: modern rings, and DMA by the IOMMU's addresses. */
  private acceptsFeatures(): boolean {
    if ((this.accepted & ~this.offered) !== 0n) return false;
    return this.has(VIRTIO_F_VERSION_1) && this.has(VIRTIO_F_ACCESS_PLATFORM);
  }
}

function word(bits: bigint, select: number): number {
  return select > 1 ? 0 : Number((bits >> BigInt(32 * select)) & 0xffff_ffffn);
}
