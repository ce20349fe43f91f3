/** The life of each lent buffer over time, with a lane for the buffer and one for each importer. */
import { bytes, clock, duration, h, hex, svg } from './format.js';

const LANE = 22;
const LABEL = 110;
const AXIS = 16;
/** The usual width of a letter of a text in a lane. */
const LETTER = 5.6;
const MAX_SHOWN = 30;
const MAX_LISTED = 40;

export function showLanes(section, { values, lists }) {
  const windowMs = 1000 * Number(document.getElementById('window').value);
  const nowMs = Math.max(values.state?.atMs ?? 0, Date.now());
  const lives = livesOf(lists.life ?? [], values.state);
  const shown = lives.filter(({ endMs }) => endMs === null || endMs > nowMs - windowMs).slice(-MAX_SHOWN);
  const holder = section.querySelector('.lanes');
  const width = Math.max(280, holder.clientWidth);
  const open = new Set([...holder.querySelectorAll('details[open]')].map(({ dataset }) => dataset.buffer));
  const left = (values.state?.moreBuffers ?? 0) + Math.max(0, lives.length - MAX_SHOWN);
  section.querySelector('.empty').hidden = shown.length > 0;
  holder.replaceChildren(
    ...shown.toReversed().map((life) => lifeItem(life, { fromMs: nowMs - windowMs, nowMs, width, open })),
    ...(left > 0 ? [h('p', { class: 'note' }, `${left} older buffers are not shown.`)] : []),
  );
}

/** Builds each buffer's segments from its events, and from the state where events are missing. */
function livesOf(events, state) {
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

function lifeItem(life, { fromMs, nowMs, width, open }) {
  const importers = [...life.importers.values()].filter(({ segments }) => isVisible(segments, fromMs));
  const label = width < 600 ? 80 : LABEL;
  const x = (atMs) => label + ((Math.min(nowMs, Math.max(fromMs, atMs)) - fromMs) / (nowMs - fromMs)) * (width - label);
  const height = LANE * (1 + importers.length) + AXIS;
  const shape = { x, fromMs, nowMs, width, label };
  const drawing = svg(
    'svg',
    { height, viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': summary(life) },
    axis(shape, height),
    ...lane('buffer', life.own, [], 0, shape),
    ...importers.flatMap(({ name, segments, marks }, i) => lane(name, segments, marks, i + 1, shape)),
  );
  const details = h(
    'details',
    { 'data-buffer': String(life.id), open: open.has(String(life.id)) },
    h('summary', {}, `Events of buffer ${life.id}`),
    h('ol', {}, ...life.events.slice(-MAX_LISTED).map((event) => h('li', {}, eventText(event)))),
  );
  return h('article', { class: 'buffer', 'data-buffer': String(life.id) }, head(life), drawing, details);
}

function head({ id, device, sizeBytes, ranges, rangeCount, own, endMs }) {
  const places = ranges
    .slice(0, 3)
    .map(({ region, offset, sizeBytes: size }) => `BAR ${region}+${hex(offset)}, ${bytes(size)}`);
  const more = rangeCount > 3 ? ` and ${rangeCount - 3} more` : '';
  const state = endMs === null ? own.at(-1) : { state: 'released', text: '' };
  return h(
    'div',
    { class: 'head' },
    h('h3', {}, `Buffer ${id} of ${device}: ${bytes(sizeBytes)}`),
    h('span', { class: 'soft' }, `${places.join('; ')}${more}`),
    h('span', { class: 'state' }, `${state.state}${state.text === '' ? '' : ` (${state.text})`}`),
  );
}

function summary({ id, own, importers }) {
  const names = [...importers.values()].map(
    ({ name, segments }) => `${name} ${segments.at(-1)?.toMs === null ? segments.at(-1).state : 'gone'}`,
  );
  return `Buffer ${id} over time: now ${own.at(-1).state}; ${names.join(', ') || 'no importer'}`;
}

function isVisible(segments, fromMs) {
  return segments.some(({ toMs }) => toMs === null || toMs > fromMs);
}

function axis({ x, fromMs, nowMs, label, width }, height) {
  const seconds = (nowMs - fromMs) / 1000;
  const step = [1, 2, 5, 10, 20, 60, 120, 300].find((each) => seconds / each <= (width < 600 ? 4 : 8)) ?? 300;
  const marks = [];
  for (let ago = 0; ago < seconds; ago += step) {
    const at = x(nowMs - ago * 1000);
    marks.push(svg('line', { class: 'axis', x1: at, x2: at, y1: 0, y2: height - AXIS }));
    marks.push(
      svg(
        'text',
        { class: 'axis-text', x: at, y: height - 4, 'text-anchor': ago === 0 ? 'end' : 'middle' },
        ago === 0 ? 'now' : `-${ago} s`,
      ),
    );
  }
  return svg(
    'g',
    { 'aria-hidden': 'true' },
    ...marks.filter((_, i) => i < 200),
    svg('line', { class: 'axis', x1: label, x2: width, y1: height - AXIS, y2: height - AXIS }),
  );
}

function lane(name, segments, marks, index, { x, fromMs, width, label }) {
  const top = index * LANE;
  const shapes = segments
    .filter(({ toMs }) => toMs === null || toMs > fromMs)
    .map(({ state, fromMs: from, toMs }) => {
      const left = x(from);
      const right = toMs === null ? width : x(toMs);
      const isThin = state === 'attached';
      return svg('rect', {
        class: `segment ${state}`,
        x: left,
        y: top + (isThin ? 10 : 4),
        width: Math.max(2, right - left),
        height: isThin ? 3 : LANE - 8,
        rx: 2,
      });
    });
  // The words of a revoke under way give place to those of its end.
  const done = segments.filter(({ state, toMs }) => state !== 'revoking' || toMs === null);
  const words = [...done.map(({ fromMs: atMs, text }) => ({ atMs, text })), ...marks];
  const shown = words.filter(({ atMs, text }) => text !== '' && atMs >= fromMs);
  const room = Math.floor(label / 6.2);
  const short = name.length > room ? `${name.slice(0, room - 1)}…` : name;
  const title = svg('text', { class: 'lane-label', x: 0, y: top + 15 }, short);
  return [title, ...shapes, ...placed(shown, { x, width, y: top + 15 })];
}

/** The texts, newest first, without those that would cover a newer one. The list of events has them all. */
function placed(words, { x, width, y }) {
  let free = width;
  return words.toReversed().flatMap(({ atMs, text }) => {
    const size = text.length * LETTER;
    const left = Math.min(x(atMs) + 3, width - size);
    if (left + size > free) return [];
    free = left - LETTER;
    return [svg('text', { class: 'segment-text', x: left, y }, text)];
  });
}

const WORDS = {
  export: () => 'exported',
  attach: ({ importer }) => `${importer.name} attached`,
  detach: ({ importer }) => `${importer.name} detached`,
  map: ({ importer }) => `${importer.name} mapped it`,
  unmap: ({ importer }) => `${importer.name} unmapped it`,
  revoke: ({ cause }) => `revoke begins: ${cause}`,
  'let-go': ({ importer, ms }) => `${importer.name} let go after ${duration(ms)}`,
  'time-out': ({ importer }) => `${importer} did not let go in time and was disconnected`,
  revoked: ({ cause, ms }) => `revoked by ${cause} in ${duration(ms)}`,
  restore: () => 'lent again',
  release: () => 'released',
};

function eventText(event) {
  return `${clock(event.atMs)} ${WORDS[event.kind]?.(event) ?? event.kind}`;
}
