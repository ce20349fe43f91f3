/** The life of each lent buffer over time, with a lane for the buffer and one for each importer. */
import { bytes, clock, count, duration, h, hex, show, svg } from './format.js';
import { livesOf } from './lives.js';

/** Heights: a lane, the line of words below it, and the axis. */
const LANE = 22;
const WORDS_LINE = 14;
const AXIS = 16;
/** The width of the names of lanes. */
const LABEL = 106;
/** No letter of a text in a lane is wider, on average. */
const LETTER = 6.2;
const MAX_SHOWN = 30;
const MAX_LISTED = 40;
/** Importers of a buffer that its line names. */
const MAX_NAMED = 3;

export function showLanes(section, { values, lists }) {
  const windowMs = 1000 * Number(document.getElementById('window').value);
  const nowMs = Math.max(values.state?.atMs ?? 0, Date.now());
  const lives = livesOf(lists.life ?? [], values.state);
  const shown = lives.filter(({ endMs }) => endMs === null || endMs > nowMs - windowMs).slice(-MAX_SHOWN);
  const holder = section.querySelector('.lanes');
  const width = Math.max(280, holder.clientWidth);
  const left = (values.state?.moreBuffers ?? 0) + Math.max(0, lives.length - MAX_SHOWN);
  section.querySelector('.empty').hidden = shown.length > 0;
  const lost = values['events-lost'] ?? 0;
  const words = lost > 0 ? `${count(lost)} events came faster than they could be shown: lanes may lack parts.` : '';
  const place = section.querySelector('.lost');
  if (place.textContent !== words) place.textContent = words;
  const now = new Map((values.state?.buffers ?? []).map((buffer) => [buffer.id, buffer]));
  show(holder, [
    ...shown.toReversed().map((life) => {
      const users = now.has(life.id) ? usersText(now.get(life.id), values.state.processes) : null;
      return lifeItem(life, users, { fromMs: nowMs - windowMs, nowMs, width });
    }),
    ...(left > 0 ? [h('p', { class: 'note' }, `${left} older buffers are not shown.`)] : []),
  ]);
}

function lifeItem(life, users, { fromMs, nowMs, width }) {
  const importers = [...life.importers.values()].filter(({ segments }) => isVisible(segments, fromMs));
  const x = (atMs) => LABEL + ((Math.min(nowMs, Math.max(fromMs, atMs)) - fromMs) / (nowMs - fromMs)) * (width - LABEL);
  const shape = { x, fromMs, width };
  const lanes = [];
  let height = 0;
  for (const { name, segments, marks } of [{ name: 'buffer', segments: life.own, marks: [] }, ...importers]) {
    const words = wordsOf(segments, marks, fromMs);
    lanes.push(...lane({ name, segments, words, top: height }, shape));
    height += LANE + (words.length > 0 ? WORDS_LINE : 0);
  }
  height += AXIS;
  const drawing = svg(
    'svg',
    { height, viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': summary(life) },
    axis({ ...shape, nowMs }, height),
    ...lanes,
  );
  const details = h(
    'details',
    {},
    h('summary', {}, `Events of buffer ${life.id}`),
    h('ol', {}, ...life.events.slice(-MAX_LISTED).map((event) => h('li', {}, eventText(event)))),
  );
  return h('article', { class: 'buffer', 'data-key': String(life.id) }, head(life, users), drawing, details);
}

function head({ id, device, sizeBytes, ranges, rangeCount, own, endMs }, users) {
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
    h('span', { class: `state ${state.state}` }, `${state.state}${state.text === '' ? '' : ` (${state.text})`}`),
    endMs !== null || users === null ? null : h('span', { class: 'soft' }, users),
  );
}

/** The importers of a buffer now, and the fences that their work has left on it. */
function usersText({ importers, pendingFences, revokingMs }, processes) {
  const words = importers.slice(0, MAX_NAMED).map(({ name, mappings }) => {
    const program = processes[name.replace('process ', '')];
    return `${name}${program ? ` (${program})` : ''} has ${mappings > 0 ? 'mapped' : 'attached'} it`;
  });
  if (importers.length === 0) words.push('no importer');
  if (importers.length > MAX_NAMED) words.push(`${count(importers.length - MAX_NAMED)} more importers`);
  words.push(pendingFences === 0 ? 'no fence pending' : `fences pending: ${count(pendingFences)}`);
  if (revokingMs !== null) words.push(`the revoke takes ${duration(revokingMs)} so far`);
  return words.join(', ');
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

function axis({ x, fromMs, nowMs, width }, height) {
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
    svg('line', { class: 'axis', x1: LABEL, x2: width, y1: height - AXIS, y2: height - AXIS }),
  );
}

/** The words of a lane that are in the time shown. Those of a revoke under way give place to those of its end. */
function wordsOf(segments, marks, fromMs) {
  const done = segments.filter(({ state, toMs }) => state !== 'revoking' || toMs === null);
  const words = [...done.map(({ fromMs: atMs, text }) => ({ atMs, text })), ...marks];
  return words.filter(({ atMs, text }) => text !== '' && atMs >= fromMs);
}

function lane({ name, segments, words, top }, { x, fromMs, width }) {
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
  const room = Math.floor(LABEL / 6.6);
  const short = name.length > room ? `${name.slice(0, room - 1)}…` : name;
  const title = svg('text', { class: 'lane-label', x: 0, y: top + 15 }, short);
  return [title, ...shapes, ...placed(words, { x, width, top })];
}

/** The texts, newest first, without those that would cover a newer one. The list of events has them all. */
function placed(words, { x, width, top }) {
  let free = width;
  return words.toReversed().flatMap(({ atMs, text }) => {
    const at = x(atMs);
    const size = text.length * LETTER;
    // A text at the right edge ends there, whatever its font.
    const isAtEdge = at + size > width;
    const left = isAtEdge ? width - size : at;
    if (left + size > free) return [];
    free = left - LETTER;
    const anchor = isAtEdge ? { x: width, 'text-anchor': 'end' } : { x: at };
    const tick = svg('line', { class: 'tick', x1: at, x2: at, y1: top + LANE - 4, y2: top + LANE + 1 });
    return [tick, svg('text', { class: 'segment-text', ...anchor, y: top + LANE + WORDS_LINE - 4 }, text)];
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
