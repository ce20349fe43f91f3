/**
 * A run as an HTML page: the drawing, the broken invariant with the histories that explain it, and a table of all
 * steps.
 */
import type { ShownHistory, ShownRun } from '../explore/world/schedule.ts';
import { esc } from './escape.ts';
import { boxLeft, fieldName, type Layout, layoutOf, TRACK_BAR_WIDTH, trackLeft } from './layout.ts';
import { SCRIPT, STYLE } from './style.ts';
import { drawing, stateOf } from './svg.ts';

/** The page does not need other files or a network. docs/timelines.md is its legend. `mutant` is for the title. */
export function htmlTimeline(run: ShownRun, mutant: string | null = null): string {
  const layout = layoutOf(run);
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${esc(titleOf(run, mutant))}</title>
<style>${STYLE}</style>
</head>
<body>
${header(run, mutant)}
<main>
<div class="heads" style="width:${layout.width}px">${heads(run, layout)}</div>
${drawing(run, layout)}
${run.histories.map(historyTable).join('\n')}
${stepTable(run)}
</main>
<div id="detail" hidden><button type="button" aria-label="close">×</button><b></b><br><span></span><pre></pre></div>
<script type="application/json" id="steps">${stepData(run)}</script>
<script>${SCRIPT}</script>
</body>
</html>
`;
}

function titleOf(run: ShownRun, mutant: string | null): string {
  return mutant === null ? run.program : `${run.program} with ${mutant}`;
}

function header(run: ShownRun, mutant: string | null): string {
  const outcome = run.finding === null ? 'No invariant was broken.' : run.finding.message;
  const stuck = run.blocked.map(
    ({ task, op, object, state, source }) =>
      `<li><b>${esc(task)}</b> is stuck at ${esc(op)} ${esc(object)}, ${esc(state)} <code>${esc(source)}</code></li>`,
  );
  const preemptions = run.preemptions === 1 ? '1 preemption' : `${run.preemptions} preemptions`;
  const jump = run.failsAt.map((index) => `<a href="#s${index}">step ${index}</a>`).join(' and ');
  return `<header>
<h1>${esc(titleOf(run, mutant))}</h1>
<p class="${run.finding === null ? 'good' : 'bad'}">${esc(outcome)}</p>
${stuck.length > 0 ? `<ul class="stuck">${stuck.join('')}</ul>` : ''}
<p class="facts">${run.steps.length} steps, ${preemptions}${jump === '' ? '' : `; it shows at ${jump}`}.${idleWords(run)}
Time runs down. Click a step, or use the arrow keys, for the stack that took it.</p>
<div class="legend"><span><i style="background:var(--l0)"></i>a lock that the task holds, paler for reading</span>
<span><i style="border-top:2px solid var(--blue);height:0;vertical-align:3px"></i>can only come after</span>
<span><i style="border-top:2px dotted var(--soft);height:0;vertical-align:3px"></i>preemption</span>
<span><i style="border:1.6px solid var(--amber)"></i>a wait</span>
<span><i style="background:var(--red)"></i>where it broke</span>
<span><i style="background:var(--on)"></i>an object's state over time</span></div>
</header>`;
}

function idleWords({ idle }: ShownRun): string {
  return idle.length === 0 ? '' : ` No step was taken by ${idle.map(esc).join(', ')}.`;
}

function heads(run: ShownRun, layout: Layout): string {
  const tasks = run.tasks.map(
    (task) =>
      `<span style="left:${boxLeft(run, layout, task)}px;width:${layout.boxWidth}px" title="${esc(task)}">${esc(task)}</span>`,
  );
  const objects = layout.tracks.map(
    (track, i) =>
      `<span class="object" style="left:${trackLeft(layout, i)}px;width:${TRACK_BAR_WIDTH}px" ` +
      `title="${esc(track.label)}">${esc(fieldName(track.label))}</span>`,
  );
  return [...tasks, ...objects].join('');
}

function historyTable({ label, events }: ShownHistory): string {
  const rows = events.map(
    ({ step, task, what, stack }) =>
      `<tr><td class="n">${step < 0 ? 'before' : step}</td><td>${esc(task)}</td><td>${esc(what)}</td>` +
      `<td>${stack.map(esc).join('<br>')}</td></tr>`,
  );
  if (rows.length === 0) return '';
  return `<h2>${esc(label)}: who made it, took it, dropped it, freed it</h2>
<table><tr><th>step</th><th>task</th><th></th><th>at</th></tr>${rows.join('')}</table>`;
}

function stepTable(run: ShownRun): string {
  const rows = run.steps.map(
    (step) =>
      `<tr${run.failsAt.includes(step.index) ? ' class="fails"' : ''}><td class="n">${step.index}</td>` +
      `<td>${esc(step.task)}</td><td>${esc(step.op)} ${esc(step.object)}</td><td>${esc(stateOf(step))}</td>` +
      `<td>${esc(step.source)}</td></tr>`,
  );
  const head = '<tr><th>step</th><th>task</th><th>operation</th><th>state</th><th>source</th></tr>';
  return `<h2>All steps</h2>\n<table>${head}${rows.join('\n')}</table>`;
}

/** The steps as data for the script. Escapes `<` so that no text can end the element. */
function stepData(run: ShownRun): string {
  const data = run.steps.map((step) => ({
    task: step.task,
    activity: step.activity,
    op: step.op,
    object: step.object,
    state: stateOf(step),
    stack: step.stack,
    after: step.after,
  }));
  return JSON.stringify(data).replaceAll('<', '\\u003c');
}
