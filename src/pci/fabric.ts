/** The fabric: routes memory requests (TLPs) from a function to a peer, to system memory, or nowhere. */
import type { Task } from '../task/op.ts';
import type { Bar } from './bar.ts';
import type { CopyOutcome, DmaMapping, DmaStatus, DmaTarget } from './dma.ts';
import { advance, IOMMU_READ, IOMMU_WRITE } from './dma.ts';
import { assignAddresses, assignGroups, type BarWindow, numberBuses } from './enumerate.ts';
import type { PciFunction } from './function.ts';
import { type Memory, tryAccess, tryCopy } from './memory.ts';
import { type Port, reachesBelowRoot } from './port.ts';

/** Decides whether peer-to-peer DMA may go through the host bridge (fact 28 of the p2pdma rules). */
export interface HostBridge {
  vendorId: number;
  deviceId: number;
  /** AMD from family 0x17 on routes between root ports. */
  cpuVendor: 'amd' | 'intel' | 'other';
  cpuFamily: number;
  /** A bus address is a host address plus this. */
  busOffset: number;
}

/** A request that reached a BAR whose function does not answer: invariant I9. */
export interface StrayTlp {
  /** Null for the CPU. */
  requester: PciFunction | null;
  target: PciFunction;
  bar: number;
  offset: number;
  isWrite: boolean;
}

type MemoryMapping = DmaMapping & { target: { kind: 'memory' } };

/** The part of a request that goes to one target. */
interface Piece {
  target: DmaTarget;
  length: number;
}

export class Fabric {
  readonly hostBridge: HostBridge;
  readonly rootPorts: readonly Port[];
  readonly functions: readonly PciFunction[];
  /** System memory from host address 0, for functions without a domain; null for machines without it. */
  readonly systemMemory: Memory | null;
  /** Called for each request that a BAR did not answer, during the requester's DMA. */
  onStrayTlp: (tlp: StrayTlp) => void = () => {};
  /** Sorted by address. */
  private readonly windows: readonly BarWindow[];

  constructor(hostBridge: HostBridge, rootPorts: readonly Port[], systemMemory: Memory | null = null) {
    this.hostBridge = hostBridge;
    this.rootPorts = rootPorts;
    this.systemMemory = systemMemory;
    this.functions = numberBuses(rootPorts);
    for (const fn of this.functions) {
      fn.lifecycle.plug();
      fn.fabric = this;
    }
    this.windows = assignAddresses(this.functions);
    assignGroups(this.functions);
  }

  /** Finds the BAR that a host address lies in. */
  decode(address: number): { fn: PciFunction; bar: Bar; offset: number } | null {
    let low = 0;
    let high = this.windows.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.windows[middle].end <= address) low = middle + 1;
      else high = middle;
    }
    const window = this.windows[low];
    if (window === undefined || address < window.start) return null;
    return { fn: window.fn, bar: window.bar, offset: address - window.start };
  }

  /**
   * One DMA of `requester`, cut where mappings end. A piece that reaches a BAR reads that function's `memoryDecode`, as
   * a visible step, and moves its bytes in the same step. Stops at the first piece that fails.
   */
  *dma(requester: PciFunction, address: number, bytes: Uint8Array, isWrite: boolean): Task<DmaStatus> {
    const { resets } = requester;
    for (let at = 0; at < bytes.length; ) {
      // The function may have been stopped while another function or a client answered for the piece before.
      if (!requester.mayStartDma) return requester.busMaster ? 'not-in-d0' : 'bus-master-off';
      const piece = this.route(requester, address + at, bytes.length - at, isWrite);
      if (typeof piece === 'string') return piece;
      const part = bytes.subarray(at, at + piece.length);
      const status = yield* this.deliver(requester, piece.target, part, isWrite);
      if (status !== 'ok') return status;
      requester.dmaBytes += piece.length;
      if (isWrite) requester.dmaLog?.written(address + at, piece.length);
      if (requester.resets !== resets) return 'reset';
      at += piece.length;
    }
    return 'ok';
  }

  /**
   * As `dma`, if all bytes are in one memory that a domain maps: the request has no visible step. Returns null, with
   * nothing done, for all others.
   */
  dmaNow(requester: PciFunction, address: number, bytes: Uint8Array, isWrite: boolean): DmaStatus | null {
    const mapping = this.memoryAt(requester, address, isWrite);
    if (mapping === null || address + bytes.length > mapping.iova + mapping.sizeBytes) return null;
    const { memory, offset } = mapping.target;
    if (!tryAccess(memory, offset + address - mapping.iova, bytes, isWrite)) return 'unsupported-request';
    requester.dmaBytes += bytes.length;
    if (isWrite) requester.dmaLog?.written(address, bytes.length);
    return 'ok';
  }

  /**
   * A read and a write of `requester` as one copy; returns the number of bytes. It copies as many of `length` bytes as
   * lie in one piece at both ends. Both ends must be memory that a domain maps, so there is no visible step. Returns 0
   * for all others, and where one end does not answer: a read and a write then tell which.
   */
  copyNow(requester: PciFunction, source: number, destination: number, length: number): number {
    const from = this.memoryAt(requester, source, false);
    if (from === null) return 0;
    const to = this.memoryAt(requester, destination, true);
    if (to === null) return 0;
    const fromAt = source - from.iova;
    const toAt = destination - to.iova;
    const moved = Math.min(length, from.sizeBytes - fromAt, to.sizeBytes - toAt);
    const { target } = to;
    if (!tryCopy(from.target.memory, from.target.offset + fromAt, target.memory, target.offset + toAt, moved)) return 0;
    requester.dmaBytes += moved;
    requester.dmaLog?.written(destination, moved);
    return moved;
  }

  /** The mapping of an address whose request goes to memory that a domain maps; null for all others. */
  private memoryAt(requester: PciFunction, address: number, isWrite: boolean): MemoryMapping | null {
    const domain = requester.iommuDomain;
    if (domain === null || !domain.translates || !requester.mayStartDma) return null;
    if (!domain.ownsBus) {
      const peer = this.decode(address - this.hostBridge.busOffset);
      if (peer !== null && reachesBelowRoot(requester, peer.fn)) return null;
    }
    const mapping = domain.find(address);
    if (mapping === null || mapping.target.kind !== 'memory') return null;
    return (mapping.prot & (isWrite ? IOMMU_WRITE : IOMMU_READ)) === 0 ? null : (mapping as MemoryMapping);
  }

  /**
   * As copyNow, if one of the two is a BAR of plain memory: one visible read of that function's `memoryDecode`, with
   * the bytes moved in the same step.
   */
  *copy(requester: PciFunction, source: number, destination: number, length: number): Task<CopyOutcome> {
    if (!requester.mayStartDma) return 0;
    const from = this.route(requester, source, length, false);
    if (typeof from === 'string') return 0;
    const to = this.route(requester, destination, from.length, true);
    if (typeof to === 'string') return 0;
    const isWrite = to.target.kind === 'mmio';
    const [mmio, other] = isWrite ? [to.target, from.target] : [from.target, to.target];
    if (mmio.kind !== 'mmio' || other.kind !== 'memory') return 0;
    const hit = this.decode(mmio.address);
    const memory = hit?.bar.target.memory ?? null;
    if (hit === null || memory === null) return 0;
    if (!(yield* hit.fn.memoryDecode.load())) {
      this.onStrayTlp({ requester, target: hit.fn, bar: hit.bar.index, offset: hit.offset, isWrite });
      return isWrite ? 'write-failed' : 'read-failed';
    }
    const isDone = isWrite
      ? tryCopy(other.memory, other.offset, memory, hit.offset, to.length)
      : tryCopy(memory, hit.offset, other.memory, other.offset, to.length);
    if (!isDone) return 0;
    requester.dmaBytes += to.length;
    requester.dmaLog?.written(destination, to.length);
    return to.length;
  }

  /** The target of a request at `address`, and the number of its bytes that go there. */
  private route(requester: PciFunction, address: number, length: number, isWrite: boolean): Piece | DmaStatus {
    const domain = requester.iommuDomain;
    // On the bus, BARs answer bus addresses: ports route a request to a peer before it gets to the root complex.
    const hostAddress = address - this.hostBridge.busOffset;
    const below = domain?.ownsBus === true ? null : this.decode(hostAddress);
    if (below !== null && reachesBelowRoot(requester, below.fn)) return toBar(hostAddress, below, length);
    if (domain === null || !domain.translates) {
      // At the root complex, an untranslated address is a host address, as mapPhysVec gives it out.
      const peer = this.decode(address);
      if (peer !== null) return toBar(address, peer, length);
      const memory = this.systemMemory;
      if (memory === null || address + length > memory.sizeBytes) return 'unsupported-request';
      return { target: { kind: 'memory', memory, offset: address }, length };
    }
    const mapping = domain.find(address);
    if (mapping === null || (mapping.prot & (isWrite ? IOMMU_WRITE : IOMMU_READ)) === 0) return 'iommu-fault';
    const offset = address - mapping.iova;
    const most = mapping.target.kind === 'remote' ? mapping.target.access.chunkBytes : length;
    return { target: advance(mapping.target, offset), length: Math.min(length, most, mapping.sizeBytes - offset) };
  }

  private *deliver(requester: PciFunction, target: DmaTarget, bytes: Uint8Array, isWrite: boolean): Task<DmaStatus> {
    if (target.kind === 'mmio') return yield* this.deliverToBar(requester, target.address, bytes, isWrite);
    if (target.kind === 'remote') {
      const { access } = target;
      const moved = yield* isWrite ? access.write(target.address, bytes) : access.read(target.address, bytes);
      return moved ? 'ok' : 'unsupported-request';
    }
    return tryAccess(target.memory, target.offset, bytes, isWrite) ? 'ok' : 'unsupported-request';
  }

  private *deliverToBar(requester: PciFunction, address: number, bytes: Uint8Array, isWrite: boolean): Task<DmaStatus> {
    const hit = this.decode(address);
    if (hit === null) return 'unsupported-request';
    if (!(yield* hit.fn.memoryDecode.load())) {
      this.onStrayTlp({ requester, target: hit.fn, bar: hit.bar.index, offset: hit.offset, isWrite });
      return 'unsupported-request';
    }
    if (isWrite) hit.bar.target.write(hit.offset, bytes);
    else hit.bar.target.read(hit.offset, bytes);
    return 'ok';
  }
}

/** The piece of a request that lies in one BAR. */
function toBar(address: number, { bar, offset }: { bar: Bar; offset: number }, length: number): Piece {
  return { target: { kind: 'mmio', address }, length: Math.min(length, bar.sizeBytes - offset) };
}
