/**
 * Wakeup trees (Abdulla, Aronis, Jonsson, Sagonas: Source Sets, JACM 2017): the orders that are still to be run from a
 * state. A branch is a step with its continuations. A step that commutes with all steps before it may be taken first.
 *
 * Only a run of the new order shows exactly how a step turns out there. Until then the step is known by two bounds, the
 * most and the least that it may touch. Most questions have the same answer for both bounds, and need no run.
 */
import { conflict, type PlannedStep } from '../world/access.ts';

/** A step of an order that was not run yet. */
export interface BoundedStep {
  /** The step, or the most that it may touch. */
  step: PlannedStep;
  /** The least that it may touch; null if `step` is exact. */
  least: PlannedStep | null;
}

export interface Branch extends BoundedStep {
  readonly children: Branch[];
  /** The number of the part that was given away: everything after its first line of children. 0 if none was. */
  part: number;
  /** How its step turns out, if that had to be known early. */
  outcome: PlannedStep | null;
}

/** Makes a branch's step exact. The last branch of `line` is that branch, and those before lead to it. */
export type Settle = (line: readonly Branch[]) => void;

/** An order of steps. All but the last are exact. */
export class PlannedOrder {
  readonly steps: readonly PlannedStep[];
  private readonly last: BoundedStep;
  private readonly exactly: () => PlannedStep;

  /** `least` is the least that the last step may touch, or null; `exactly` then finds out how it turns out. */
  constructor(steps: readonly PlannedStep[], least: PlannedStep | null, exactly: () => PlannedStep) {
    this.steps = steps;
    this.last = { step: steps[steps.length - 1], least };
    this.exactly = exactly;
  }

  /** The last step, made exact if need be. */
  settled(): PlannedStep {
    if (this.last.least !== null) Object.assign(this.last, { step: this.exactly(), least: null });
    return this.last.step;
  }

  get end(): Readonly<BoundedStep> {
    return this.last;
  }

  /** Whether the exact `step` can come first in some order of these steps (or need not be in it): a weak initial. */
  canBeginWith(step: PlannedStep): boolean {
    return this.canBegin({ step, least: null }, this.steps, noNeed);
  }

  /** The same for a step that may not be exact, and for `rest`, which has the last step and some before it. */
  canBegin(first: BoundedStep, rest: readonly PlannedStep[], settleFirst: () => void): boolean {
    const { task } = first.step;
    const { last, steps } = this;
    const end = rest.length > 0 && rest[rest.length - 1] === steps[steps.length - 1] ? rest.length - 1 : rest.length;
    for (let i = 0; i < end; i++) {
      if (rest[i].task === task) return true;
      if (!conflict(first.step, rest[i])) continue;
      if (first.least !== null) {
        if (conflict(first.least, rest[i])) return false;
        settleFirst();
        if (!conflict(first.step, rest[i])) continue;
      }
      return false;
    }
    if (end === rest.length || last.step.task === task || !conflict(first.step, last.step)) return true;
    if (conflict(first.least ?? first.step, last.least ?? last.step)) return false;
    this.settled();
    if (conflict(first.step, last.step) && first.least !== null) settleFirst();
    return !conflict(first.step, last.step);
  }
}

function noNeed(): void {}

/** `PlannedOrder.canBeginWith` for exact steps, or for steps of which only the most that they may touch is known. */
export function isWeakInitial(step: PlannedStep, sequence: readonly PlannedStep[]): boolean {
  for (const other of sequence) {
    if (other.task === step.task) return true;
    if (conflict(step, other)) return false;
  }
  return true;
}

/** Whether the step at `index` of `sequence` can come first: an initial. A later step of a task never is one. */
export function isInitial(sequence: readonly PlannedStep[], index: number): boolean {
  const step = sequence[index];
  for (let i = 0; i < index; i++) {
    if (sequence[i].task === step.task || conflict(step, sequence[i])) return false;
  }
  return true;
}

/** Adds an order to the branches unless one of them leads to an equivalent order. Returns whether it was added. */
export function insert(branches: Branch[], order: PlannedOrder, settle: Settle): boolean {
  const line: Branch[] = [];
  const canBegin = (branch: Branch, rest: readonly PlannedStep[]): boolean =>
    order.canBegin(branch, rest, () => settle([...line, branch]));
  let list = branches;
  let rest = order.steps;
  for (;;) {
    const next = list.find((branch) => canBegin(branch, rest));
    if (next === undefined) break;
    const { task } = next.step;
    const at = rest.findIndex((step) => step.task === task);
    if (at >= 0) rest = rest.filter((_, i) => i !== at);
    if (next.children.length === 0 || rest.length === 0) return false;
    list = next.children;
    line.push(next);
  }
  const last = order.steps[order.steps.length - 1];
  for (const step of rest) {
    const branch = step === last ? branchOf(order.end.step, order.end.least) : branchOf(step);
    list.push(branch);
    list = branch.children;
  }
  return true;
}

export function branchOf(step: PlannedStep, least: PlannedStep | null = null): Branch {
  return { step, least, children: [], part: 0, outcome: null };
}

/** A branch and its first children, down to the last one: the order that is run first. */
export function firstLine(branch: Branch): Branch[] {
  const line = [branch];
  for (let next = branch.children[0]; next !== undefined; next = next.children[0]) line.push(next);
  return line;
}
