/** The lives of lent buffers: what each and its importers were, from when to when. */
import { duration } from './format.js';

/** Builds each buffer's segments from its events, and from the state where events are missing. */
export function livesOf(events, state) {
  const lives = new Map();
  for (const event of events) {
    if (event.buffer === undefined) continue;
    if (event.kind === 'export') lives.set(event.buffer, newLife(event, event.revoked));
    const life = lives.get(event.buffer);
    if (life !== undefined) take(life, event);
  }
  for (const buffer of state?.buffers ?? []) {
    if (lives.has(buffer.id)) continue;
    const life = newLife({ ...buffer, buffer: buffer.id, atMs: buffer.sinceMs }, buffer.revoked);
    for (const { id, name, mappings } of buffer.importers) {
      take(life, { kind: 'attach', atMs: buffer.sinceMs, importer: { id, name } });
      if (mappings > 0) take(life, { kind: 'map', atMs: buffer.sinceMs, importer: { id, name } });
    }
    lives.set(buffer.id, life);
  }
  return [...lives.values()].sort((a, b) => a.id - b.id);
}

function newLife({ buffer, device, ranges, rangeCount, sizeBytes, atMs }, revoked) {
  const first = { state: revoked ? 'revoked' : 'lent', fromMs: atMs, toMs: null, text: revoked ? 'born revoked' : '' };
  return {
    id: buffer,
    device,
    ranges,
    rangeCount,
    sizeBytes,
    endMs: null,
    own: [first],
    importers: new Map(),
    events: [],
  };
}

function take(life, event) {
  const { kind, atMs } = event;
  life.events.push(event);
  if (kind === 'revoke') next(life.own, 'revoking', atMs, event.cause);
  if (kind === 'revoked') next(life.own, 'revoked', atMs, `${event.cause}, ${duration(event.ms)}`);
  if (kind === 'restore') next(life.own, 'lent', atMs, '');
  if (kind === 'release') {
    end(life.own, atMs);
    life.endMs = atMs;
  }
  if (event.importer?.id === undefined) return;
  const { id, name } = event.importer;
  const lane = life.importers.get(id) ?? { name, segments: [], marks: [] };
  life.importers.set(id, lane);
  if (kind === 'attach') next(lane.segments, 'attached', atMs, '');
  if (kind === 'map') next(lane.segments, 'mapped', atMs, '');
  if (kind === 'unmap' || kind === 'let-go') next(lane.segments, 'attached', atMs, '');
  if (kind === 'let-go') lane.marks.push({ atMs, text: `let go after ${duration(event.ms)}` });
  if (kind === 'detach') end(lane.segments, atMs);
}

function next(segments, state, atMs, text) {
  end(segments, atMs);
  segments.push({ state, fromMs: atMs, toMs: null, text });
}

function end(segments, atMs) {
  const last = segments.at(-1);
  if (last !== undefined && last.toMs === null) last.toMs = atMs;
}
