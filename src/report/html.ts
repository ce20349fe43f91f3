/** A run as a page: lanes, arrows for what must come before what, bars for locks that are held. Needs nothing else. */
import type { ShownRun, ShownStep } from '../explore/schedule.ts';

const LANE_WIDTH = 300;
const ROW_HEIGHT = 40;
const LEFT = 56;
const TOP = 64;
const BOX_WIDTH = 236;
const BOX_HEIGHT = 26;

export function htmlTimeline(run: ShownRun): string {
  const width = LEFT + run.tasks.length * LANE_WIDTH + 24;
  const height = TOP + run.steps.length * ROW_HEIGHT + 24;
  const outcome = run.finding === null ? 'No invariant was broken.' : run.finding.message;
  const stuck = run.blocked.map(
    (b) => `<li><b>${esc(b.task)}</b> is stuck at ${esc(b.op)} ${esc(b.object)}, ${esc(b.state)}</li>`,
  );
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>${esc(run.program)}</title><style>${STYLE}</style></head>
<body><header><h1>${esc(run.program)}</h1>
<p class="${run.finding === null ? 'good' : 'bad'}">${esc(outcome)}</p>
<p>${run.steps.length} steps, ${run.preemptions} preemptions. Time runs down; arrows say what must come before what; bars
are locks that a task holds. Point at a step for its line of code.</p>${stuck.length > 0 ? `<ul>${stuck.join('')}</ul>` : ''}</header>
<main><svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img"
 aria-label="timeline">${DEFS}${lanes(run, height)}${locks(run)}${arrows(run)}${boxes(run)}</svg>
${stateTable(run)}</main></body></html>
`;
}

const STYLE = `:root{color-scheme:light dark;--ink:#1c2733;--soft:#64748b;--paper:#f8fafc;--card:#fff;--line:#cbd5e1;--blue:#2563eb;
--amber:#d97706;--red:#dc2626}@media(prefers-color-scheme:dark){:root{--ink:#e2e8f0;--soft:#94a3b8;--paper:#0f172a;--card:#1e293b;
--line:#334155;--blue:#60a5fa;--amber:#fbbf24;--red:#f87171}}body{margin:0;background:var(--paper);color:var(--ink);
font:14px/1.5 system-ui,sans-serif}header{padding:20px 28px 0;max-width:1000px}h1{font-size:22px;margin:0 0 4px}
.bad{color:var(--red);font-weight:600}.good{color:var(--blue)}main{padding:8px 28px 40px;overflow-x:auto}
svg text{font:12px ui-monospace,monospace;fill:var(--ink)}svg .lane{stroke:var(--line);stroke-dasharray:2 4}
svg .name{font:600 14px system-ui,sans-serif}svg .box{fill:var(--card);stroke:var(--line)}svg .wait{stroke:var(--amber)}
svg .fails{fill:var(--red);stroke:var(--red)}svg .fails+text{fill:#fff;font-weight:600}svg .index{fill:var(--soft)}
svg .arrow{fill:none;stroke:var(--blue);stroke-opacity:.55;stroke-width:1.4;marker-end:url(#tip)}
svg .lock{fill:var(--amber);fill-opacity:.75}#tip path{fill:var(--blue)}table{border-collapse:collapse;margin-top:24px}
th,td{text-align:left;padding:3px 14px 3px 0;border-bottom:1px solid var(--line);font:12px ui-monospace,monospace}`;

const DEFS =
  '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">' +
  '<path d="M0 0 8 4 0 8z"/></marker></defs>';

const x = (run: ShownRun, task: string): number => LEFT + run.tasks.indexOf(task) * LANE_WIDTH + LANE_WIDTH / 2;
const y = (index: number): number => TOP + index * ROW_HEIGHT + ROW_HEIGHT / 2;

function lanes(run: ShownRun, height: number): string {
  return run.tasks
    .map((task) => {
      const at = x(run, task);
      return (
        `<text class="name" x="${at}" y="32" text-anchor="middle">${esc(task)}</text>` +
        `<line class="lane" x1="${at}" y1="${TOP - 16}" x2="${at}" y2="${height - 8}"/>`
      );
    })
    .join('');
}

/** A bar from each acquire to its release, or to the end; locks held at the same time lie side by side. */
function locks(run: ShownRun): string {
  const bars: string[] = [];
  const open: { task: string; object: string; from: number; column: number }[] = [];
  const draw = (bar: (typeof open)[number], to: number): void => {
    const left = x(run, bar.task) - BOX_WIDTH / 2 - 10 - bar.column * 8;
    const title = `<title>${esc(bar.task)} holds ${esc(bar.object)}</title>`;
    bars.push(
      `<rect class="lock" rx="2" x="${left}" y="${y(bar.from)}" width="5" height="${Math.max(4, y(to) - y(bar.from))}">${title}</rect>`,
    );
  };
  for (const step of run.steps) {
    if (step.lock === 1) {
      const taken = open.filter((bar) => bar.task === step.task).map((bar) => bar.column);
      let column = 0;
      while (taken.includes(column)) column += 1;
      open.push({ task: step.task, object: step.object, from: step.index, column });
    } else if (step.lock === -1) {
      const at = open.findLastIndex((bar) => bar.task === step.task && bar.object === step.object);
      if (at >= 0) draw(open.splice(at, 1)[0], step.index);
    }
  }
  for (const bar of open) draw(bar, run.steps.length - 0.5);
  return bars.join('');
}

function arrows(run: ShownRun): string {
  return run.steps.flatMap((step) => step.after.map((from) => arrow(run, run.steps[from], step))).join('');
}

function arrow(run: ShownRun, from: ShownStep, to: ShownStep): string {
  const direction = Math.sign(x(run, to.task) - x(run, from.task));
  const x1 = x(run, from.task) + (direction * BOX_WIDTH) / 2;
  const x2 = x(run, to.task) - (direction * BOX_WIDTH) / 2;
  const middle = (x1 + x2) / 2;
  return `<path class="arrow" d="M${x1} ${y(from.index)}C${middle} ${y(from.index)} ${middle} ${y(to.index)} ${x2} ${y(to.index)}"/>`;
}

function boxes(run: ShownRun): string {
  return run.steps
    .map((step) => {
      const fails = run.finding !== null && step.index === run.steps.length - 1;
      const left = x(run, step.task) - BOX_WIDTH / 2;
      const words = `${step.op} ${step.object}`;
      const shown = words.length > 34 ? `${words.slice(0, 33)}…` : words;
      const title = [words, step.state, step.source].filter((part) => part !== '').join('\n');
      return (
        `<g class="step"><title>${esc(title)}</title><rect class="box${step.waits ? ' wait' : ''}${fails ? ' fails' : ''}"` +
        ` rx="5" x="${left}" y="${y(step.index) - BOX_HEIGHT / 2}" width="${BOX_WIDTH}" height="${BOX_HEIGHT}"/>` +
        `<text x="${left + 8}" y="${y(step.index) + 4}">${esc(shown)}</text></g>` +
        `<text class="index" x="${LEFT - 20}" y="${y(step.index) + 4}" text-anchor="end">${step.index}</text>`
      );
    })
    .join('');
}

function stateTable(run: ShownRun): string {
  const rows = run.steps.map(
    (step) =>
      `<tr><td>${step.index}</td><td>${esc(step.task)}</td><td>${esc(step.op)} ${esc(step.object)}</td>` +
      `<td>${esc(step.state)}</td><td>${esc(step.source)}</td></tr>`,
  );
  const head = '<tr><th>step</th><th>task</th><th>operation</th><th>state after</th><th>source</th></tr>';
  return `<table>${head}${rows.join('')}</table>`;
}

function esc(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}
