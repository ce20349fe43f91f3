/** A run as text: one line for each step, one lane for each task. docs/timelines.md is the legend. */
import type { ShownRun, ShownStep } from '../explore/world/schedule.ts';
import { type Fold, folded, foldInWords, isFold } from './fold.ts';
import { beside, hang } from './lines.ts';

const MIN_LANE = 14;
const MAX_LANE = 44;
const LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ';

/** How to draw a timeline as text. */
export interface TextOptions {
  /** Print the stack of each step below it. */
  stacks?: boolean;
  /** A terminal's columns. If lanes do not fit, each task is a letter. Unlimited by default. */
  columns?: number;
}

/** Draws a run as text: a lane for each task, or a letter where lanes do not fit. */
export function textTimeline(run: ShownRun, options: TextOptions = {}): string {
  const { columns = Number.POSITIVE_INFINITY } = options;
  const wide = wideTimeline(run, options);
  const fits = wide.split('\n').every((line) => line.length <= columns) || run.tasks.length > LETTERS.length;
  return fits ? wide : narrowTimeline(run, options, columns);
}

/** A lane for each task. */
function wideTimeline(run: ShownRun, { stacks = false }: TextOptions): string {
  const longest = Math.max(0, ...run.steps.map((step) => step.op.length + step.object.length + 1));
  const width = Math.max(MIN_LANE, Math.min(MAX_LANE, longest));
  const indexWidth = Math.max(2, String(run.steps.length).length);
  const indent = ' '.repeat(indexWidth + 2);
  const lines = [`${indent}${run.tasks.map((task) => task.padEnd(width)).join('  ')}`.trimEnd()];
  for (const { step, begins } of withActivities(run)) {
    if (isFold(step)) {
      lines.push(`${indent}${foldInWords(step)}`);
      continue;
    }
    if (begins !== null) lines.push(`${indent}${step.task}: ${begins}`);
    lines.push(stepLine(run, step, width, indexWidth));
    if (stacks) for (const frame of step.stack) lines.push(`${indent}    ${frame}`);
  }
  return [...lines, ...ending(run, indexWidth)].join('\n');
}

/** A letter for each task. The source is below a step if it does not fit beside it. */
function narrowTimeline(run: ShownRun, { stacks = false }: TextOptions, columns: number): string {
  const letters = new Map(run.tasks.map((task, i) => [task, LETTERS[i]]));
  const indexWidth = Math.max(2, String(run.steps.length).length);
  const indent = indexWidth + 3 + run.tasks.length;
  const pad = ' '.repeat(indent);
  const longest = Math.max(...run.steps.map((step) => step.op.length + step.object.length + 1));
  const width = Math.min(longest, MAX_LANE);
  const lines = [...letters].map(([task, letter]) => `${' '.repeat(indexWidth + 2)}${letter}: ${task}`);
  for (const { step, begins } of withActivities(run)) {
    if (isFold(step)) {
      lines.push(`${pad}${hang(foldInWords(step), indent + 2, columns, indent)}`);
      continue;
    }
    if (begins !== null) lines.push(`${pad}${hang(`${step.task}: ${begins}`, indent + 2, columns, indent)}`);
    const lanes = run.tasks.map((task) => (task === step.task ? letters.get(task) : '.')).join('');
    const what = `${step.op} ${step.object}`.padEnd(width);
    const left = `${String(step.index).padStart(indexWidth)}${markOf(run, step)} ${lanes} ${what}`;
    const withState = beside(
      left.trimEnd().padEnd(step.state === '' ? 0 : left.length),
      step.state,
      indent + 2,
      columns,
    );
    const lastLine = withState.slice(withState.lastIndexOf('\n') + 1);
    const fits = lastLine.length + 2 + step.source.length <= columns;
    lines.push(fits && step.source !== '' ? `${withState}  ${step.source}` : withState);
    if (!fits) lines.push(`${pad}  ${step.source}`);
    if (stacks) for (const frame of step.stack) lines.push(`${pad}    ${frame}`);
  }
  const rest = ending(run, indexWidth).map((line) => {
    const start = line.length - line.trimStart().length;
    return `${' '.repeat(start)}${hang(line.trimStart(), start + 4, columns, start)}`;
  });
  return [...lines, ...rest].join('\n');
}

/** The steps and folds, each step with the activity that its task begins with it, or null. */
function* withActivities(run: ShownRun): Generator<{ step: ShownStep | Fold; begins: string | null }> {
  const activities = new Map<string, string>();
  for (const step of folded(run)) {
    if (isFold(step)) {
      yield { step, begins: null };
      continue;
    }
    yield { step, begins: step.activity === (activities.get(step.task) ?? '') ? null : step.activity };
    activities.set(step.task, step.activity);
  }
}

/** The lines below the steps: tasks without a step, stuck tasks, the finding and its histories. */
function ending(run: ShownRun, indexWidth: number): string[] {
  const indent = ' '.repeat(indexWidth + 2);
  const lines: string[] = [];
  if (run.idle.length > 0 && run.steps.length > 0) lines.push(`${indent}no step by ${run.idle.join(', ')}`);
  for (const block of run.blocked) {
    const at = block.source === '' ? '' : `  ${block.source}`;
    lines.push(`${indent}${block.task}: stuck at ${block.op} ${block.object}, ${block.state}${at}`);
  }
  if (run.finding !== null) lines.push(`${'!'.padStart(indexWidth)}  ${run.finding.message}`);
  return [...lines, ...histories(run)];
}

function stepLine(run: ShownRun, step: ShownStep, width: number, indexWidth: number): string {
  const lanes = run.tasks.map((task) =>
    (task === step.task ? `${step.op} ${step.object}`.slice(0, width) : '.').padEnd(width),
  );
  const parts = [step.state, step.source].filter((part) => part !== '');
  return `${String(step.index).padStart(indexWidth)}${markOf(run, step)} ${lanes.join('  ')}  ${parts.join('  ')}`.trimEnd();
}

function markOf(run: ShownRun, step: ShownStep): string {
  if (run.failsAt.includes(step.index)) return '!';
  return step.preempts ? '~' : ' ';
}

/** The histories of the finding's objects: the tasks that made, took, dropped and freed them. */
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
