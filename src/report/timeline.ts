/** A run as text: one line for each step, one lane for each task. docs/timelines.md is the legend. */
import type { ShownRun } from '../explore/schedule.ts';

const MIN_LANE = 14;
const MAX_LANE = 44;

export function textTimeline(run: ShownRun): string {
  const width = Math.max(
    MIN_LANE,
    Math.min(MAX_LANE, ...[Math.max(...run.steps.map((step) => step.op.length + step.object.length + 1), 0)]),
  );
  const indexWidth = String(run.steps.length).length;
  const lines = [`${' '.repeat(indexWidth)}  ${run.tasks.map((task) => task.padEnd(width)).join('  ')}`];
  for (const step of run.steps) {
    const lanes = run.tasks.map((task) =>
      (task === step.task ? `${step.op} ${step.object}`.slice(0, width) : '.').padEnd(width),
    );
    const state = step.state === '' ? '' : `  ${step.state}`;
    const source = step.source === '' ? '' : `  ${step.source}`;
    lines.push(`${String(step.index).padStart(indexWidth)}  ${lanes.join('  ')}${state}${source}`.trimEnd());
  }
  for (const block of run.blocked) {
    lines.push(`${' '.repeat(indexWidth)}  ${block.task}: stuck at ${block.op} ${block.object}, ${block.state}`);
  }
  if (run.finding !== null) lines.push(`${'!'.padStart(indexWidth)}  ${run.finding.message}`);
  return lines.join('\n');
}
