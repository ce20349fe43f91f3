/**
 * The drawing of a run: a lane for each task, bars for the locks that it holds, arrows, and tracks of objects'
 * states.
 */
import type { ShownRun, ShownStep } from '../explore/world/schedule.ts';
import { esc } from './escape.ts';
import {
  BOX_HEIGHT,
  boxLeft,
  brokeAtTheEnd,
  GUTTER,
  HEAD,
  type Layout,
  ROW_HEIGHT,
  shortName,
  TRACK_BAR_WIDTH,
  trackLeft,
} from './layout.ts';

/** Average width of a character of the boxes' first line, in pixels. */
const CHARACTER = 7;
const SMALL_CHARACTER = 5.8;
/** The number of colours for locks; style.ts names them l0 and so on. */
const COLORS = 6;

export function drawing(run: ShownRun, layout: Layout): string {
  const { width, height } = layout;
  const parts = [
    rows(run, layout),
    lanes(run, layout),
    tracks(layout),
    locks(run, layout),
    arrows(run, layout),
    headings(run, layout),
  ];
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" ` +
    `role="img" aria-label="timeline of ${esc(run.program)}">${TIPS}${parts.join('')}` +
    `${run.steps.map((step) => box(run, layout, step)).join('')}${blocks(run, layout)}${end(run, layout)}</svg>`
  );
}

const TIPS = `<defs>${['tip', 'tip-hot']
  .map(
    (id) =>
      `<marker id="${id}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">` +
      '<path d="M0 0 8 4 0 8z"/></marker>',
  )
  .join('')}</defs>`;

/** The numbers, a line at each preemption of a runnable task, and the stripe of a failing step. */
function rows(run: ShownRun, layout: Layout): string {
  const { width } = layout;
  return run.steps
    .map((step) => {
      const middle = layout.middles[step.index];
      const top = middle - ROW_HEIGHT / 2;
      const stripe = run.failsAt.includes(step.index)
        ? `<rect class="stripe" x="0" y="${top}" width="${width}" height="${ROW_HEIGHT}"/>`
        : '';
      const above = layout.middles[step.index - 1] + ROW_HEIGHT / 2;
      const cut = step.preempts
        ? `<g><title>preemption: the task above could have gone on</title><path class="cut" d="M4 ${above}H${width}"/></g>`
        : '';
      return `${stripe}${cut}<text class="index" x="${GUTTER - 14}" y="${middle + 4}">${step.index}</text>`;
    })
    .join('');
}

/** A task's new activity, above its first box. */
function headings(run: ShownRun, layout: Layout): string {
  const room = Math.floor(layout.boxWidth / CHARACTER);
  return layout.headings
    .map(({ task, text, bottom }) => {
      const at = boxLeft(run, layout, task);
      const title = `<title>${esc(text)}</title>`;
      return `<text class="activity" x="${at}" y="${bottom - 2}">${title}${esc(cut(text, room))}</text>`;
    })
    .join('');
}

function lanes(run: ShownRun, layout: Layout): string {
  return run.tasks
    .map((task) => {
      const at = boxLeft(run, layout, task) + layout.boxWidth / 2;
      return `<path class="lane" d="M${at} ${HEAD}V${layout.height}"/>`;
    })
    .join('');
}

/** A bar from each acquire to its release, or to the end; locks held at the same time lie side by side. */
function locks(run: ShownRun, layout: Layout): string {
  const bars: string[] = [];
  const ids = [...new Set(run.steps.filter((step) => step.lock === 1).map((step) => step.objectId))];
  const colorOf = (step: ShownStep): number => ids.indexOf(step.objectId) % COLORS;
  const open: { step: ShownStep; column: number }[] = [];
  const draw = ({ step, column }: (typeof open)[number], to: number): void => {
    const left = boxLeft(run, layout, step.task) - 9 - column * 8;
    const top = layout.middles[step.index] - 4;
    const until = to < 0 ? 'to the end' : `to step ${to}`;
    const title = `${step.task} holds ${step.object}${step.isShared ? ' for reading' : ''}, ${until}`;
    const bottom = to < 0 ? layout.height - 6 : layout.middles[to] + 4;
    bars.push(
      `<g><title>${esc(title)}</title><rect class="lock l${colorOf(step)}${step.isShared ? ' shared' : ''}" rx="2.5" ` +
        `x="${left}" y="${top}" width="5" height="${bottom - top}"/></g>`,
    );
  };
  for (const step of run.steps) {
    if (step.lock === 1) {
      const taken = open.filter((bar) => bar.step.task === step.task).map((bar) => bar.column);
      let column = 0;
      while (taken.includes(column)) column += 1;
      open.push({ step, column });
    } else if (step.lock === -1) {
      const at = open.findLastIndex((bar) => bar.step.task === step.task && bar.step.objectId === step.objectId);
      if (at >= 0) draw(open.splice(at, 1)[0], step.index);
    }
  }
  for (const bar of open) draw(bar, -1);
  return bars.join('');
}

function arrows(run: ShownRun, layout: Layout): string {
  return run.steps.flatMap((step) => step.after.map((from) => arrow(run, layout, run.steps[from], step))).join('');
}

function arrow(run: ShownRun, layout: Layout, from: ShownStep, to: ShownStep): string {
  const left = boxLeft(run, layout, from.task);
  const right = boxLeft(run, layout, to.task);
  const isRightward = right > left;
  const x1 = isRightward ? left + layout.boxWidth : left;
  const x2 = isRightward ? right - 2 : right + layout.boxWidth + 2;
  const bend = Math.max(30, Math.abs(x2 - x1) / 2) * (isRightward ? 1 : -1);
  const [y1, y2] = [layout.middles[from.index], layout.middles[to.index]];
  return (
    `<path class="arrow" data-from="${from.index}" data-to="${to.index}" ` +
    `d="M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}"><title>step ${to.index} comes after ` +
    `step ${from.index}: ${esc(from.object)}</title></path>`
  );
}

function box(run: ShownRun, layout: Layout, step: ShownStep): string {
  const left = boxLeft(run, layout, step.task);
  const middle = layout.middles[step.index];
  const classes = ['box'];
  if (step.waits) classes.push('wait');
  if (run.failsAt.includes(step.index)) classes.push('fails');
  const title = [step.activity, `${step.op} ${step.object}`, stateOf(step), ...step.stack]
    .filter((part) => part !== '')
    .join('\n');
  const room = Math.floor((layout.boxWidth - 16) / CHARACTER);
  const words = cut(`${step.op} ${shortName(step.object)}`, room);
  const small = cutStart(step.source, Math.floor((layout.boxWidth - 16) / SMALL_CHARACTER));
  const lines =
    small === ''
      ? `<text x="${left + 8}" y="${middle + 4}">${esc(words)}</text>`
      : `<text x="${left + 8}" y="${middle - 2}">${esc(words)}</text>` +
        `<text class="source" x="${left + 8}" y="${middle + 11}">${esc(small)}</text>`;
  return (
    `<g class="step" id="s${step.index}" data-step="${step.index}"><title>${esc(title)}</title>` +
    `<rect class="${classes.join(' ')}" rx="5" x="${left}" y="${middle - BOX_HEIGHT / 2}" ` +
    `width="${layout.boxWidth}" height="${BOX_HEIGHT}"/>${lines}</g>`
  );
}

export function stateOf(step: ShownStep): string {
  if (step.before === step.state) return step.state;
  return `${step.before} → ${step.state}`;
}

/** The tasks that are stuck, below everything else. */
function blocks(run: ShownRun, layout: Layout): string {
  const middle = layout.middles[run.steps.length];
  return run.blocked
    .map((block) => {
      const left = boxLeft(run, layout, block.task);
      const words = cut(
        `stuck: ${block.op} ${shortName(block.object)}`,
        Math.floor((layout.boxWidth - 16) / CHARACTER),
      );
      const small = cut(block.state, Math.floor((layout.boxWidth - 16) / SMALL_CHARACTER));
      const title = [`${block.task} is stuck at ${block.op} ${block.object}`, block.state, ...block.stack].join('\n');
      return (
        `<g class="step stuck"><title>${esc(title)}</title><rect class="box fails" rx="5" x="${left}" ` +
        `y="${middle - BOX_HEIGHT / 2}" width="${layout.boxWidth}" height="${BOX_HEIGHT}"/>` +
        `<text x="${left + 8}" y="${middle - 2}">${esc(words)}</text>` +
        `<text class="source" x="${left + 8}" y="${middle + 11}">${esc(small)}</text></g>`
      );
    })
    .join('');
}

/** The message of a finding about the end, across all lanes. */
function end(run: ShownRun, layout: Layout): string {
  if (run.finding === null || !brokeAtTheEnd(run)) return '';
  if (run.tasks.length === 0) return '';
  const left = boxLeft(run, layout, run.tasks[0]);
  const room = layout.tracksAt - 18 - left;
  const middle = layout.middles[run.steps.length];
  const words = cut(`at the end: ${run.finding.message}`, Math.floor((room - 16) / CHARACTER));
  return (
    `<g class="step end"><title>${esc(run.finding.message)}</title><rect class="box fails" rx="5" x="${left}" ` +
    `y="${middle - BOX_HEIGHT / 2}" width="${room}" height="${BOX_HEIGHT}"/>` +
    `<text x="${left + 8}" y="${middle + 4}">${esc(words)}</text></g>`
  );
}

/** For each object a bar, cut at each change of state, with the state in words. */
function tracks(layout: Layout): string {
  return layout.tracks
    .map((track, position) => {
      const left = trackLeft(layout, position);
      const changes = [{ at: -1, state: track.steps[0].before }];
      for (const step of track.steps) {
        if (step.state !== changes[changes.length - 1].state) changes.push({ at: step.index, state: step.state });
      }
      return changes
        .map(({ at, state }, i) => {
          const top = at < 0 ? HEAD : layout.middles[at];
          const bottom = i + 1 < changes.length ? layout.middles[changes[i + 1].at] : layout.height - 6;
          return segment(left, top, bottom, track.label, state);
        })
        .join('');
    })
    .join('');
}

function segment(left: number, top: number, bottom: number, label: string, state: string): string {
  const words = cut(stateInShort(state), Math.floor((TRACK_BAR_WIDTH - 10) / SMALL_CHARACTER));
  const kind = ['', 'false', 'free', '0', 'not done'].includes(state) ? 'off' : 'on';
  const text = bottom - top >= 12 ? `<text x="${left + 6}" y="${top + 12}">${esc(words)}</text>` : '';
  return (
    `<g class="state ${kind}"><title>${esc(`${label}: ${state}`)}</title><rect x="${left}" y="${top}" rx="2" ` +
    `width="${TRACK_BAR_WIDTH}" height="${Math.max(1, bottom - top - 1)}"/>${text}</g>`
  );
}

function stateInShort(state: string): string {
  const held = /^held(?: for (write|read))? by (.*)$/.exec(state);
  if (held === null) return state;
  return `${held[1] === 'read' ? 'r: ' : ''}${held[2]}`;
}

/** As `cut`, but keeps the end, for texts that differ there. */
function cutStart(text: string, room: number): string {
  return text.length > room ? `…${text.slice(text.length - Math.max(1, room - 1))}` : text;
}

function cut(text: string, room: number): string {
  return text.length > room ? `${text.slice(0, Math.max(1, room - 1))}…` : text;
}
