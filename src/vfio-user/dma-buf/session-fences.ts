/**
 * The pending fences of one importer in another process. ADD_FENCE adds them under the reservation. They are signalled
 * without it, since a revoke holds the reservation while it waits for them.
 */
import type { ErrnoName } from '../../abi/errno.ts';
import type { DmaBuf } from '../../dma-buf/dma-buf.ts';
import { DmaFence } from '../../dma-buf/fence.ts';
import type { DmaResvUsage } from '../../dma-buf/resv.ts';
import { Cell } from '../../task/cell.ts';
import type { Task } from '../../task/op.ts';
import { beyondLimit } from '../../vfio/limit-hits.ts';
import type { LimitUse } from '../wire/limit-use.ts';
import { IMPORTER_LIMITS } from './limits.ts';
import type { RemoteAttachment } from './remote-mapping.ts';

interface OwnedFence {
  readonly fence: DmaFence;
  readonly attachment: RemoteAttachment;
}

/** Pending fences of a buffer, of all its importers. */
const pendingOf = new WeakMap<DmaBuf, number>();

export class SessionFences {
  private readonly dmabuf: DmaBuf;
  private readonly pending = new Cell('importer.fences', new Map<number, OwnedFence>());

  constructor(dmabuf: DmaBuf) {
    this.dmabuf = dmabuf;
  }

  usage(of: string): LimitUse[] {
    return [{ limit: 'maxFences', of, used: this.pending.value.size, most: IMPORTER_LIMITS.maxFences }];
  }

  /** Adds a fence to the reservation, which is held. ENOSPC beyond the limits of the session and of the buffer. */
  *add(id: number, attachment: RemoteAttachment, usage: DmaResvUsage): Task {
    const size = yield* this.pending.loadFor((fences) => fences.size);
    if (size >= IMPORTER_LIMITS.maxFences) throw beyondLimit('maxFences', 'ENOSPC', `${size} fences are the most`);
    const ofBuffer = pendingOf.get(this.dmabuf) ?? 0;
    if (ofBuffer >= IMPORTER_LIMITS.maxFencesOfBuffer) {
      const reason = `the buffer has ${ofBuffer} pending fences of all its importers`;
      throw beyondLimit('maxFencesOfBuffer', 'ENOSPC', reason);
    }
    const fence = new DmaFence('fence of an importer');
    yield* this.pending.changeFor((fences) => void fences.set(id, { fence, attachment }));
    pendingOf.set(this.dmabuf, ofBuffer + 1);
    yield* this.dmabuf.resv.addFence(fence, usage);
  }

  /** Signals a fence, with `error` where it is not null. Returns false if the fence is not pending. */
  *signal(id: number, error: ErrnoName | null): Task<boolean> {
    const owned = yield* this.pending.changeFor((fences) => {
      const found = fences.get(id);
      fences.delete(id);
      return found;
    });
    if (owned === undefined) return false;
    pendingOf.set(this.dmabuf, pendingOf.get(this.dmabuf)! - 1);
    owned.fence.error = error;
    yield* owned.fence.signal();
    return true;
  }

  /** Signals the fences of one attachment, or of all for null, with ECANCELED. */
  *cancel(attachment: number | null): Task {
    for (const [id, owned] of yield* this.list()) {
      if (attachment === null || owned.attachment.id === attachment) yield* this.signal(id, 'ECANCELED');
    }
  }

  /** The pending fences of an attachment. */
  *of(attachment: RemoteAttachment): Task<DmaFence[]> {
    const own = (yield* this.list()).filter(([, owned]) => owned.attachment === attachment);
    return own.map(([, { fence }]) => fence);
  }

  private list(): Task<[number, OwnedFence][]> {
    return this.pending.loadFor((fences) => [...fences]);
  }
}
