/** The mappings of one importer in another process. The reservation guards them: every caller holds it. */
import type { DmaBuf, DmaDirection } from '../../dma-buf/dma-buf.ts';
import type { Task } from '../../task/op.ts';
import { Plain } from '../../task/plain.ts';
import { VfioPciDmaBuf } from '../../vfio/dmabuf.ts';
import { beyondLimit } from '../../vfio/limit-hits.ts';
import type { LimitUse } from '../wire/limit-use.ts';
import { IMPORTER_LIMITS } from './limits.ts';
import { memoryOf, type RemoteAttachment, type RemoteMapping } from './remote-mapping.ts';
import type { SharedBars } from './shared-bars.ts';

/** Ranges of the mappings of all importers of this process. */
let rangesOfAll = 0;

export class SessionMappings {
  private readonly dmabuf: DmaBuf;
  private readonly bars: SharedBars;
  private readonly mappings = new Plain('importer.mappings', new Map<number, RemoteMapping>());
  /** Ranges of all mappings of the session. */
  private ranges = 0;

  constructor(dmabuf: DmaBuf, bars: SharedBars) {
    this.dmabuf = dmabuf;
    this.bars = bars;
  }

  usage(of: string): LimitUse[] {
    const { maxMappings, maxMappedRanges } = IMPORTER_LIMITS;
    return [
      { limit: 'maxMappings', of, used: this.mappings.get().size, most: maxMappings },
      { limit: 'maxMappedRanges', of, used: this.ranges, most: maxMappedRanges },
    ];
  }

  /**
   * Maps the buffer for `attachment`, lists the mapping and announces it; undoes all of it where one of them fails.
   * ENOSPC, E2BIG, and the errors of the exporter's map.
   */
  *add(
    id: number,
    attachment: RemoteAttachment,
    direction: DmaDirection,
    announce: (mapping: RemoteMapping) => Task,
  ): Task {
    const { size } = this.mappings.get();
    if (size >= IMPORTER_LIMITS.maxMappings)
      throw beyondLimit('maxMappings', 'ENOSPC', `${size} mappings are the most`);
    this.checkRanges();
    const table = yield* this.dmabuf.map(attachment.attachment, direction);
    let mapping: RemoteMapping | null = null;
    try {
      const { memory, ranges } = memoryOf(this.dmabuf, table);
      mapping = { id, attachment, direction, table, memory, ranges };
      this.mappings.change().set(id, mapping);
      this.countRanges(mapping, 1);
      this.bars.hold(memory);
      yield* announce(mapping);
    } catch (error) {
      if (mapping !== null) yield* this.drop(mapping, false);
      else yield* this.dmabuf.unmap(attachment.attachment, table, direction);
      throw error;
    }
  }

  /** Unmaps. With `stillMapped` the importer may still have the memory mapped, so the BAR moves away from it. */
  *drop(mapping: RemoteMapping, stillMapped: boolean): Task {
    this.mappings.change().delete(mapping.id);
    this.countRanges(mapping, -1);
    // Must precede the unmap, which lets a revoke return.
    yield* this.bars.drop(mapping.memory, stillMapped);
    yield* this.dmabuf.unmap(mapping.attachment.attachment, mapping.table, mapping.direction);
  }

  /** Drops those of `mappings` that still exist. */
  *dropEach(mappings: readonly RemoteMapping[], stillMapped: boolean): Task {
    for (const mapping of mappings) if (this.find(mapping.id) === mapping) yield* this.drop(mapping, stillMapped);
  }

  find(id: number): RemoteMapping | undefined {
    return this.mappings.get().get(id);
  }

  all(): RemoteMapping[] {
    return [...this.mappings.get().values()];
  }

  of(attachment: RemoteAttachment): RemoteMapping[] {
    return this.all().filter((mapping) => mapping.attachment === attachment);
  }

  /** Runs before the table is made. E2BIG for more ranges than a message takes, ENOSPC for more than may be kept. */
  private checkRanges(): void {
    const { priv } = this.dmabuf;
    // A revoked buffer fails in the exporter's map.
    if (!(priv instanceof VfioPciDmaBuf) || priv.revoked.value) return;
    const count = priv.physVec.length;
    const { maxRanges, maxMappedRanges, maxMappedRangesOfAll } = IMPORTER_LIMITS;
    if (count > maxRanges) throw beyondLimit('maxRanges', 'E2BIG', `${count} ranges; ${maxRanges} fit into a message`);
    if (this.ranges + count > maxMappedRanges || rangesOfAll + count > maxMappedRangesOfAll) {
      const limit = this.ranges + count > maxMappedRanges ? 'maxMappedRanges' : 'maxMappedRangesOfAll';
      const reason = `${this.ranges} ranges of this session are mapped, ${rangesOfAll} of all`;
      throw beyondLimit(limit, 'ENOSPC', reason);
    }
  }

  private countRanges({ ranges }: RemoteMapping, sign: 1 | -1): void {
    this.ranges += sign * ranges.length;
    rangesOfAll += sign * ranges.length;
  }
}
