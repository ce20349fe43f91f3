/** A device that a test of libvfio-user configured, on a Barter server that runs only when it is told to. */
import { ERRNO, Errno } from '../../../src/abi/errno.ts';
import { viewOf } from '../../../src/abi/layout.ts';
import { PCI_COMMAND, PCI_COMMAND_MASTER } from '../../../src/abi/pci_regs.ts';
import {
  VFIO_USER_DEVICE_RESET,
  VFIO_USER_DMA_MAP,
  VFIO_USER_DMA_UNMAP,
  VFIO_USER_F_TYPE_MASK,
  VFIO_USER_HEADER_SIZE,
  VFIO_USER_VERSION,
  vfio_user_dma_map,
  vfio_user_dma_unmap,
  vfio_user_header,
} from '../../../src/abi/vfio-user.ts';
import type { IommuDomain } from '../../../src/iommu/domain.ts';
import { memfdMemory } from '../../../src/linux/bar-memory.ts';
import { capturedFunction } from '../../../src/machine/captured.ts';
import type { Doorbell } from '../../../src/pci/bar.ts';
import { Fabric } from '../../../src/pci/fabric.ts';
import type { PciFunction } from '../../../src/pci/function.ts';
import { arrayMemory, type Memory } from '../../../src/pci/memory.ts';
import { Port } from '../../../src/pci/port.ts';
import type { Task } from '../../../src/task/op.ts';
import { runner } from '../../../src/task/runner.ts';
import { WaitQueue } from '../../../src/task/wait-queue.ts';
import { buildVfioDevices } from '../../../src/vfio/driver.ts';
import { PROFILES } from '../../../src/vfio/profile.ts';
import { IMPORTER_TIMEOUT_MS } from '../../../src/vfio-user/dma-buf/limits.ts';
import { VfioUserServer } from '../../../src/vfio-user/server/server.ts';
import type { TappedMessage } from '../../../src/vfio-user/wire/tap.ts';

/** A device as a test describes it. */
export interface ContextSpec {
  /** The path of its socket. */
  path: string;
  /** Config space in hexadecimal. */
  config: string;
  bars: { index: number; size: number; kind: 'mem32' | 'io'; mappable: boolean }[];
}

/** The functions of a test that the library would call. Each returns 0 or an errno. */
export interface Callbacks {
  reset(kind: ResetKind): number;
  quiesce(): number;
  dma(isMap: boolean, address: number, sizeBytes: number, prot: number): number;
}

/** enum vfu_reset_type. */
export type ResetKind = 0 | 1 | 2;
const VFU_RESET_DEVICE = 0;
const VFU_RESET_LOST_CONN = 1;
const VFU_RESET_PCI_FLR = 2;

const HOST = { vendorId: 0x8086, deviceId: 0x29c0, cpuVendor: 'other', cpuFamily: 0, busOffset: 0 } as const;

export class ServedContext {
  private readonly callbacks: Callbacks;
  private readonly server: VfioUserServer;
  private readonly fn: PciFunction;
  private readonly memories: Memory[] = [];
  /** The command of the client that is served now; null between two of them. */
  private command: number | null = null;
  private payload: Uint8Array = new Uint8Array();
  /** The library calls a test once for each reset; Barter resets functions at the open of a device too. */
  private resetTold = false;
  private replies = 0;
  /** The number of the client's connection, while it has the device. */
  private client: number | null = null;
  private clientEnded = false;
  /** The newest connection whose handshake is over, and the errno of its VERSION: EINVAL where no reply was sent. */
  private newest: { connection: number; error: number } = { connection: 0, error: 0 };
  private busy = false;
  private readonly quiet = new WaitQueue('the test says that the device is quiet');

  constructor(spec: ContextSpec, callbacks: Callbacks) {
    this.callbacks = callbacks;
    const tap = (message: TappedMessage) => this.onMessage(message);
    this.server = new VfioUserServer(() => {}, IMPORTER_TIMEOUT_MS, { tap });
    this.fn = this.build(spec);
    const [vdev] = buildVfioDevices(new Map([[this.fn.name, this.fn]]), PROFILES.default).values();
    this.server.serve(vdev!, spec.path);
  }

  private build({ config, bars }: ContextSpec): PciFunction {
    const mappable = new Set(bars.filter((bar) => bar.mappable).map(({ index }) => `device.bar${index}`));
    const provider = (label: string, sizeBytes: number): Memory => {
      const memory = (mappable.has(label) ? memfdMemory : arrayMemory)(label, sizeBytes);
      this.memories.push(memory);
      return memory;
    };
    const description = {
      ...({ name: 'device', port: 'root', model: 'captured', config } as const),
      bars: bars.map(({ index, kind, size }) => ({ index, kind, size, prefetchable: false })),
    };
    const port = new Port('root', 'root', null);
    const fn = capturedFunction(description, provider);
    fn.lifecycle.add({ onReset: () => this.onReset(), quiesce: () => this.quiesce() });
    port.functions.push(fn);
    new Fabric(HOST, [port]);
    return fn;
  }

  /** Serves until a client's handshake is over. Returns 0, or the errno. */
  attach(): number {
    const before = this.newest.connection;
    while (this.newest.connection === before && this.server.loop.turn(0)) {}
    const { connection, error } = this.newest;
    if (connection === before) return ERRNO.EAGAIN;
    // A client that was refused is gone before the next one comes.
    if (error !== 0) while (this.server.loop.turn(0)) {}
    else this.client = connection;
    this.clientEnded = false;
    return error;
  }

  /** Serves one message of the client. Returns 0, ENOTCONN when the client has left, EBUSY while the device is busy. */
  run(): number {
    const before = this.replies;
    while (this.replies === before && this.server.loop.turn(0)) {}
    if (this.busy) return ERRNO.EBUSY;
    if (this.replies > before || this.client === null || !this.clientEnded) return 0;
    this.client = null;
    return ERRNO.ENOTCONN;
  }

  /** The test's device is quiet now. EINVAL unless it was asked to be. */
  quiesced(): number {
    if (!this.busy) return ERRNO.EINVAL;
    this.busy = false;
    runner.run(this.quiet.wake());
    while (this.server.loop.turn(0)) {}
    return 0;
  }

  get config(): Uint8Array {
    return this.fn.config.save();
  }

  trigger(vector: number): void {
    this.fn.interrupts?.msi(vector);
  }

  /** The library lists the doorbells of a region from the newest to the oldest. */
  addDoorbell(region: number, offset: number, sizeBytes: number, datamatch: number): void {
    const { target } = this.fn.bars[region]!;
    const doorbells: Doorbell[] = [{ offset, sizeBytes, datamatch, ring: () => {} }, ...(target.doorbells ?? [])];
    Object.assign(target, { doorbells });
  }

  /** The parts of the client's memory in a range. ENOENT where a part is not mapped. */
  ranges(address: number, length: number): [number, number][] {
    const found: [number, number][] = [];
    const domain = this.fn.iommuDomain as IommuDomain | null;
    for (let at = address; at < address + length; ) {
      const mapping = domain?.find(at) ?? null;
      if (mapping === null) throw new Errno('ENOENT', `nothing is mapped at 0x${at.toString(16)}`);
      const end = Math.min(mapping.iova + mapping.sizeBytes, address + length);
      found.push([at, end - at]);
      at = end;
    }
    return found;
  }

  /** An access of the device to memory that came with a descriptor. EINVAL without a client, EFAULT if it fails. */
  dma(address: number, bytes: Uint8Array, isWrite: boolean): void {
    const { fn } = this;
    if (this.client === null) throw new Errno('EINVAL', 'DMA without a client');
    const command = fn.config.read(PCI_COMMAND, 2);
    fn.config.set(PCI_COMMAND, 2, command | PCI_COMMAND_MASTER);
    const status = isWrite ? fn.dmaWriteNow(address, bytes) : fn.dmaReadNow(address, bytes);
    fn.config.set(PCI_COMMAND, 2, command);
    if (status !== 'ok') throw new Errno('EFAULT', `DMA at 0x${address.toString(16)}: ${status}`);
  }

  destroy(): void {
    this.busy = false;
    runner.run(this.quiet.wake());
    this.server.stop();
    this.server.run();
    for (const memory of this.memories) memory.close();
  }

  private onMessage({ connection, isSent, bytes }: TappedMessage): void {
    if (bytes.length === 0) {
      if (connection === this.client) this.clientEnded = true;
      else this.handshakeOver(connection, ERRNO.EINVAL);
      return;
    }
    const { cmd, flags, error_no: error } = vfio_user_header.read(viewOf(bytes));
    if ((flags & VFIO_USER_F_TYPE_MASK) === 0) {
      this.command = cmd;
      this.payload = bytes.subarray(VFIO_USER_HEADER_SIZE);
      this.resetTold = false;
    } else if (isSent) {
      this.handshakeOver(connection, error);
      if (error === 0) this.tellDma(cmd);
      this.command = null;
      this.resetTold = false;
      this.replies += 1;
    }
  }

  private handshakeOver(connection: number, error: number): void {
    if (connection > this.newest.connection) this.newest = { connection, error };
  }

  /** Tells the test of a mapping before the client gets the reply. */
  private tellDma(command: number): void {
    if (command === VFIO_USER_DMA_MAP) {
      const { addr, size, flags } = vfio_user_dma_map.read(viewOf(this.payload));
      this.callbacks.dma(true, Number(addr), Number(size), flags);
    } else if (command === VFIO_USER_DMA_UNMAP) {
      const { addr, size } = vfio_user_dma_unmap.read(viewOf(this.payload));
      this.callbacks.dma(false, Number(addr), Number(size), 0);
    }
  }

  private onReset(): void {
    if (this.resetTold || this.command === VFIO_USER_VERSION || this.client === null) return;
    this.resetTold = true;
    if (this.command === null) this.callbacks.reset(VFU_RESET_LOST_CONN);
    else this.callbacks.reset(this.command === VFIO_USER_DEVICE_RESET ? VFU_RESET_DEVICE : VFU_RESET_PCI_FLR);
  }

  private *quiesce(): Task {
    if (this.client === null) return;
    const error = this.callbacks.quiesce();
    if (error !== ERRNO.EBUSY) return;
    this.busy = true;
    // The test ends this wait by vfu_device_quiesced, or by the end of the context.
    yield* this.quiet.waitUntil(() => !this.busy);
  }
}
