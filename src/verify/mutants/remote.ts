/** Bugs that importers in other processes could trigger, put back into the exporter's sessions. */
import type { ErrnoName } from '../../abi/errno.ts';
import type { DmaBuf } from '../../dma-buf/dma-buf.ts';
import type { Cell } from '../../task/cell.ts';
import { done, type Task } from '../../task/op.ts';
import { ExporterSession } from '../../vfio-user/dma-buf/exporter-session.ts';
import type { RemoteAttachment, RemoteMapping } from '../../vfio-user/dma-buf/remote-mapping.ts';
import { SessionFences } from '../../vfio-user/dma-buf/session-fences.ts';
import type { SessionMappings } from '../../vfio-user/dma-buf/session-mappings.ts';
import type { SharedBars } from '../../vfio-user/dma-buf/shared-bars.ts';
import { type Mutant, replace, replacePrivate } from './overlay.ts';

interface SessionInside {
  readonly mappings: SessionMappings;
  readonly fences: SessionFences;
  readonly ended: Cell<boolean>;
}

/** The session's own method, before any mutant replaced it. */
function original<A extends unknown[], R>(name: string): (this: unknown, ...args: A) => R {
  return (ExporterSession.prototype as unknown as Record<string, (this: unknown, ...args: A) => R>)[name];
}

export const REMOTE_MUTANTS: readonly Mutant[] = [
  {
    name: 'remote-told-is-enough',
    summary: 'a mapping of another process counts as given back when the message that asks for it has been sent',
    invariant: 'I9',
    scenario: 'revoke-vs-remote-answer',
    apply: () => {
      const invalidate = original<[RemoteAttachment], Task>('invalidate');
      return replacePrivate<SessionInside>(
        ExporterSession.prototype,
        'invalidate',
        function* (remote: RemoteAttachment) {
          const mappings = this.mappings.of(remote);
          yield* invalidate.call(this, remote);
          for (const mapping of mappings) yield* this.mappings.drop(mapping, false);
        },
      );
    },
  },
  {
    name: 'remote-death-leaks',
    summary: 'a process that died keeps its mappings: the revoke waits for the dead',
    invariant: 'I7',
    scenario: 'revoke-vs-remote-death',
    apply: () => {
      return replacePrivate<SessionInside>(ExporterSession.prototype, 'end', function* () {
        yield* this.ended.store(true);
        yield* this.fences.cancel(null);
      });
    },
  },
  {
    name: 'remote-signal-waits',
    summary: 'a fence is signalled under the reservation, which the revoke that waits for it holds',
    invariant: 'I7',
    scenario: 'revoke-vs-remote-fence',
    apply: () => {
      const { signal } = SessionFences.prototype;
      return replacePrivate<{ dmabuf: DmaBuf }>(
        SessionFences.prototype,
        'signal',
        function* (this: { dmabuf: DmaBuf }, id: number, error: ErrnoName | null) {
          const { lock } = this.dmabuf.resv;
          yield* lock.lock();
          const found = yield* signal.call(this as never, id, error);
          yield* lock.unlock();
          return found;
        },
      );
    },
  },
  {
    name: 'remote-reply-overtaken',
    summary: 'the reply to MAP leaves after the reservation was released: an INVALIDATE may come before it',
    invariant: 'I9',
    scenario: 'revoke-vs-remote-map',
    apply: () => {
      const { map } = ExporterSession.prototype;
      return replace(ExporterSession.prototype, 'map', function* (this: ExporterSession, id, writable, announce) {
        let made: RemoteMapping | null = null;
        yield* map.call(this, id, writable, function* (mapping) {
          made = mapping;
        });
        if (made !== null) yield* announce(made);
      });
    },
  },
  {
    name: 'remote-moved-too-late',
    summary: 'the BAR moves away from an importer that keeps it when the revoke may have returned already',
    invariant: 'I9',
    scenario: 'revoke-vs-remote-timeout',
    apply: () => {
      const end = original<[boolean], Task>('end');
      return replacePrivate<SessionInside>(ExporterSession.prototype, 'end', function* (stillMapped: boolean) {
        const { bars } = this.mappings as unknown as { bars: SharedBars };
        const memories = this.mappings.all().map(({ memory }) => memory);
        for (const memory of memories) bars.hold(memory);
        yield* end.call(this, false);
        for (const memory of memories) yield* bars.drop(memory, stillMapped);
      });
    },
  },
  {
    name: 'remote-late-fence',
    summary: 'a fence that is added while its process dies is never signalled',
    invariant: 'I7',
    scenario: 'revoke-vs-remote-fence-and-death',
    apply: () => addFenceBlindTo({ ended: { value: { load: () => done(false) } } }),
  },
  {
    name: 'remote-fence-left',
    summary: 'a fence that is added while its attachment is being detached is never signalled: found by the explorer',
    invariant: 'I7',
    scenario: 'revoke-vs-remote-fence-and-detach',
    apply: () => addFenceBlindTo({ leaving: { value: { loadFor: () => done(false) } } }),
  },
];

/** Makes ADD_FENCE see `fields` instead of the session's own properties. */
function addFenceBlindTo(fields: PropertyDescriptorMap): () => void {
  const addFenceLocked = original<unknown[], Task>('addFenceLocked');
  return replacePrivate<object>(ExporterSession.prototype, 'addFenceLocked', function (...args: unknown[]) {
    return addFenceLocked.apply(Object.create(this, fields), args);
  });
}
