/**
 * Checks the invariants of the product's objects at every step and at the end: I1, I2, I6, I8 and I9 of
 * docs/invariants.md.
 */
import type { DmaBufAttachment } from '../../dma-buf/dma-buf.ts';
import { DMA_RESV_USAGE_BOOKKEEP } from '../../dma-buf/resv.ts';
import type { CheckPart, Glance, Stage } from '../../explore/world/program.ts';
import type { Fabric, StrayTlp } from '../../pci/fabric.ts';
import { arrayMemory, type Memory, type MemoryProvider } from '../../pci/memory.ts';
import type { EngineWorld } from '../../scenario/engine/world.ts';
import { InvariantError } from '../../task/lifetime.ts';
import { runtime } from '../../task/runtime.ts';
import type { VfioPciCoreDevice } from '../../vfio/core.ts';
import type { VfioPciDmaBuf } from '../../vfio/dmabuf.ts';

/** The last state that the checker saw of one buffer. */
interface Seen {
  readonly device: VfioPciCoreDevice;
  wasRevoked: boolean;
  wasUsable: boolean;
  /** All attachments that the buffer ever had. */
  readonly attachments: Set<DmaBufAttachment>;
}

/** Bytes that a peer wrote, and whose write succeeded. */
interface Written {
  memory: Memory;
  offset: number;
  bytes: Uint8Array;
  by: string;
}

/** Memory of a BAR. An access while the BAR does not decode breaks I9. */
class CheckedMemory implements Memory {
  readonly sizeBytes: number;
  private readonly label: string;
  private readonly inner: Memory;
  private readonly world: () => EngineWorld | null;

  constructor(label: string, sizeBytes: number, world: () => EngineWorld | null) {
    this.sizeBytes = sizeBytes;
    this.label = label;
    this.inner = arrayMemory(label, sizeBytes);
    this.world = world;
  }

  read(offset: number, into: Uint8Array): void {
    this.checkDecode();
    this.inner.read(offset, into);
  }

  write(offset: number, from: Uint8Array): void {
    this.checkDecode();
    this.inner.write(offset, from);
  }

  close(): void {
    this.inner.close();
  }

  private checkDecode(): void {
    const world = this.world();
    if (!runtime.observed || world === null) return;
    const name = this.label.split('.')[0];
    if (world.device(name).pdev.memoryDecode.value) return;
    throw new InvariantError('I9', `an access reaches ${this.label}, which does not decode`);
  }
}

export class InvariantChecker {
  private world: EngineWorld | null = null;
  private readonly buffers = new Map<VfioPciDmaBuf, Seen>();
  /** How often each importer was told that its buffer is usable, and how often it should have been by now. */
  private readonly told = new Map<DmaBufAttachment, number>();
  private readonly owed = new Map<DmaBufAttachment, number>();
  private readonly written: Written[] = [];

  /** Makes memory that throws if it is accessed while its function does not decode: no TLP may get there (I9). */
  readonly memory: MemoryProvider = (label, sizeBytes) => new CheckedMemory(label, sizeBytes, () => this.world);

  begin(world: EngineWorld, fabric: Fabric): void {
    this.world = world;
    fabric.onStrayTlp = refuseStrayTlp;
  }

  /** Counts a call of an importer's callback, if the buffer is usable by then. An earlier call is useless. */
  wasTold(attachment: DmaBufAttachment): void {
    const { revoked } = attachment.dmabuf.priv as VfioPciDmaBuf;
    if (!revoked.value) this.told.set(attachment, (this.told.get(attachment) ?? 0) + 1);
  }

  /** The same for the world's importers. */
  readonly onInvalidate = ({ attachment }: { attachment: DmaBufAttachment }): void => this.wasTold(attachment);

  /** A peer's write succeeded: its bytes must be there at the end. A later write to the same place replaces it. */
  wrote(by: string, device: VfioPciCoreDevice, priv: VfioPciDmaBuf, at: number, bytes: Uint8Array): void {
    const bar = device.pdev.bars[priv.regionIndexes[0]]!;
    const memory = bar.target.memory!;
    const offset = priv.physVec[0].address - bar.address + at;
    const rest = this.written.filter((one) => one.memory !== memory || one.offset !== offset);
    this.written.splice(0, this.written.length, ...rest, { memory, offset, bytes, by });
  }

  /**
   * Registers the checks that run at each step. Each check reads as few objects as it can: the fewer objects it depends
   * on, the fewer orders the search has to try. So it first reads the object that decides most often.
   */
  watch(stage: Pick<Stage, 'afterEach'>): void {
    stage.afterEach((part) => this.eachBuffer(part, checkLent));
    stage.afterEach((part, glance) =>
      this.eachBuffer(part, (priv, seen) => this.checkDrained(priv, seen, part, glance)),
    );
    stage.afterEach((part) => this.eachBuffer(part, checkClaimed));
    stage.afterEach((part) => this.eachBuffer(part, (priv, seen) => this.countOwed(priv, seen)));
  }

  /** Checks the final state, after the last step and before anything is released. */
  checkEnd(): void {
    for (const [priv, seen] of this.buffers) {
      this.checkTold(priv, seen);
      const { device } = seen;
      const isListed = device.dmabufs.get().has(priv) && device.isOpen;
      if (isListed && priv.revoked.value && device.mayLend() && !priv.isGone) {
        throw new InvariantError('I6', `${nameOf(seen)} is revoked though its memory is enabled`);
      }
      if (isListed && !priv.revoked.value && priv.isGone) {
        throw new InvariantError('I6', `${nameOf(seen)} is lent again though it was revoked for good`);
      }
    }
    for (const { memory, offset, bytes, by } of this.written) {
      const now = new Uint8Array(bytes.length);
      memory.read(offset, now);
      if (Buffer.compare(now, bytes) !== 0) {
        throw new InvariantError('I9', `${bytes.length} bytes that ${by} wrote at offset ${offset} are not there`);
      }
    }
  }

  /** Runs a check for each live buffer that is or was in a device's list. */
  private eachBuffer(part: CheckPart, check: (priv: VfioPciDmaBuf, seen: Seen) => void): void {
    for (const device of this.world!.devices.values()) {
      for (const priv of device.dmabufs.get()) {
        if (!this.buffers.has(priv)) this.buffers.set(priv, first(device, priv));
      }
    }
    for (const [priv, seen] of this.buffers) {
      part(priv.revoked, () => {
        if (!priv.lifetime.ended) check(priv, seen);
      });
    }
  }

  /** I2: a buffer has no mappings while its memory is off, and no pending fences when its memory goes off. */
  private checkDrained(priv: VfioPciDmaBuf, seen: Seen, part: CheckPart, glance: Glance): void {
    const usable = isUsable(seen.device);
    const goesOff = seen.wasUsable && !usable;
    seen.wasUsable = usable;
    if (usable) return;
    // Without mappings, an attachment that comes or goes changes nothing here. So the check need not depend on the
    // list.
    const { attachments, resv } = priv.dmabuf;
    for (const attachment of glance(() => attachments.get())) seen.attachments.add(attachment);
    for (const attachment of seen.attachments) {
      part(attachment.mappings, () => {
        if (attachment.mappings.get().size === 0) return;
        const message = `${nameOf(seen)} is still mapped by ${attachment.importerName} though its memory is off`;
        throw new InvariantError('I2', message);
      });
    }
    if (!goesOff) return;
    // Only the step that turns the memory off gets here. Each part looks at one fence, which keeps the order of this
    // step and the fence's signal. The order of a signal and a new fence does not matter, so no look spans both.
    const fences = glance(() => resv.fences(DMA_RESV_USAGE_BOOKKEEP));
    for (const fence of fences) {
      part(fence.completion, () => {
        if (fence.isSignaled) return;
        throw new InvariantError('I2', `${nameOf(seen)} has a pending fence while its memory goes off`);
      });
    }
    // This look keeps the order of this step and a new fence.
    resv.fences(DMA_RESV_USAGE_BOOKKEEP);
  }

  /** I6: each time a buffer is lent again, its importers must be told. */
  private countOwed(priv: VfioPciDmaBuf, seen: Seen): void {
    const isRevoked = priv.revoked.value;
    if (seen.wasRevoked && !isRevoked) {
      for (const attachment of priv.dmabuf.attachments.get()) {
        this.owed.set(attachment, (this.owed.get(attachment) ?? 0) + 1);
      }
    }
    seen.wasRevoked = isRevoked;
  }

  private checkTold(priv: VfioPciDmaBuf, seen: Seen): void {
    for (const attachment of priv.dmabuf.attachments.get()) {
      if ((this.told.get(attachment) ?? 0) >= (this.owed.get(attachment) ?? 0)) continue;
      const importer = attachment.importerName;
      throw new InvariantError('I6', `${nameOf(seen)} is lent again, and ${importer} was never told`);
    }
  }
}

function first(device: VfioPciCoreDevice, priv: VfioPciDmaBuf): Seen {
  return { device, wasRevoked: priv.revoked.value, wasUsable: isUsable(device), attachments: new Set() };
}

/** I1: a buffer that is not revoked has a BAR that decodes, on a device that is awake. */
function checkLent(priv: VfioPciDmaBuf, seen: Seen): void {
  const { pdev } = seen.device;
  if (isUsable(seen.device) || priv.revoked.value) return;
  // A buffer whose last reference is gone has no importers left, and is never revoked.
  if (priv.dmabuf.count.value === 0) return;
  if (!pdev.memoryDecode.value)
    throw new InvariantError('I1', `${nameOf(seen)} is lent though its BAR does not decode`);
  if (pdev.powerState.value !== 0) {
    throw new InvariantError('I1', `${nameOf(seen)} is lent in D${pdev.powerState.value}`);
  }
  throw new InvariantError('I1', `${nameOf(seen)} is lent in low power`);
}

/** I8: an exported buffer's BARs are claimed. */
function checkClaimed(priv: VfioPciDmaBuf, seen: Seen): void {
  const { pdev, dmabufs } = seen.device;
  const unclaimed = priv.regionIndexes.find((index) => !pdev.bars[index]!.claimed);
  if (unclaimed === undefined || !dmabufs.get().has(priv) || priv.dmabuf.count.value === 0) return;
  throw new InvariantError('I8', `${nameOf(seen)} is exported though BAR ${unclaimed} is not claimed`);
}

function nameOf({ device }: Seen): string {
  return `a buffer of ${device.pdev.name}`;
}

function refuseStrayTlp(tlp: StrayTlp): never {
  const where = `BAR ${tlp.bar} of ${tlp.target.name}, which does not decode`;
  throw new InvariantError('I9', `a TLP of ${tlp.requester?.name ?? 'the CPU'} reaches ${where}`);
}

/** Whether the memory BARs decode and the device is in a power state in which they may be used. */
function isUsable({ pdev, lowPower }: VfioPciCoreDevice): boolean {
  return pdev.memoryDecode.value && pdev.powerState.value === 0 && !lowPower.engaged.value;
}
