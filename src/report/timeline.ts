/** A run as text: one line for each step, one lane for each task. docs/timelines.md is the legend. */
import type { ShownRun, ShownStep } from '../explore/world/schedule.ts';

const MIN_LANE = 14;
const MAX_LANE = 44;

export interface TextOptions {
  /** Under each step the stack that took it. */
  stacks?: boolean;
}

export function textTimeline(run: ShownRun, { stacks = false }: TextOptions = {}): string {
  const longest = Math.max(0, ...run.steps.map((step) => step.op.length + step.object.length + 1));
  const width = Math.max(MIN_LANE, Math.min(MAX_LANE, longest));
  const indexWidth = Math.max(2, String(run.steps.length).length);
  const indent = ' '.repeat(indexWidth + 2);
  const lines = [`${indent}${run.tasks.map((task) => task.padEnd(width)).join('  ')}`.trimEnd()];
  const activities = new Map<string, string>();
  for (const step of run.steps) {
    if (step.activity !== (activities.get(step.task) ?? '')) lines.push(`${indent}${step.task}: ${step.activity}`);
    activities.set(step.task, step.activity);
    lines.push(stepLine(run, step, width, indexWidth));
    if (stacks) for (const frame of step.stack) lines.push(`${indent}    ${frame}`);
  }
  if (run.idle.length > 0 && run.steps.length > 0) lines.push(`${indent}no step by ${run.idle.join(', ')}`);
  for (const block of run.blocked) {
    const at = block.source === '' ? '' : `  ${block.source}`;
    lines.push(`${indent}${block.task}: stuck at ${block.op} ${block.object}, ${block.state}${at}`);
  }
  if (run.finding !== null) lines.push(`${'!'.padStart(indexWidth)}  ${run.finding.message}`);
  return [...lines, ...histories(run)].join('\n');
}

function stepLine(run: ShownRun, step: ShownStep, width: number, indexWidth: number): string {
  const lanes = run.tasks.map((task) =>
    (task === step.task ? `${step.op} ${step.object}`.slice(0, width) : '.').padEnd(width),
  );
  const mark = run.failsAt.includes(step.index) ? '!' : step.preempts ? '~' : ' ';
  const parts = [step.state, step.source].filter((part) => part !== '');
  return `${String(step.index).padStart(indexWidth)}${mark} ${lanes.join('  ')}  ${parts.join('  ')}`.trimEnd();
}

/** Who made, took, dropped and freed what the finding is about. */
function histories(run: ShownRun): string[] {
  return run.histories
    .filter(({ events }) => events.length > 0)
    .flatMap(({ label, events }) => [
      '',
      `${label}:`,
      ...events.flatMap(({ step, task, what, stack }) => [
        `  ${step < 0 ? 'before the run' : `step ${step}, ${task}`}: ${what}`,
        ...stack.map((frame) => `      ${frame}`),
      ]),
    ]);
}
