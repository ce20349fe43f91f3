/**
 * Wakeup trees (Abdulla, Aronis, Jonsson, Sagonas: Source Sets, JACM 2017): the orders that are still to be run from a
 * state. A branch is a step with its continuations. A step that commutes with all steps before it may be taken first.
 */
import { conflict, type PlannedStep } from '../world/access.ts';

export interface Branch extends PlannedStep {
  readonly children: Branch[];
  /** The number of the part that was given away: everything after its first line of children. 0 if none was. */
  part: number;
  /** How its step turns out, if that had to be known early. */
  outcome: PlannedStep | null;
}

/** Whether `step` can come first in some order of `sequence` (or need not be in it at all): a weak initial. */
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

/** The first branch whose step can come first in `sequence`. */
function firstInitial(branches: readonly Branch[], sequence: readonly PlannedStep[]): Branch | null {
  for (const branch of branches) if (isWeakInitial(branch, sequence)) return branch;
  return null;
}

/** Adds `sequence` to the branches unless one of them leads to an equivalent order. Returns whether it was added. */
export function insert(branches: Branch[], sequence: readonly PlannedStep[]): boolean {
  let list = branches;
  let rest = sequence;
  for (let next = firstInitial(list, rest); next !== null; next = firstInitial(list, rest)) {
    const { task } = next;
    const at = rest.findIndex((step) => step.task === task);
    if (at >= 0) rest = rest.filter((_, i) => i !== at);
    if (next.children.length === 0 || rest.length === 0) return false;
    list = next.children;
  }
  for (const step of rest) {
    const branch = branchOf(step);
    list.push(branch);
    list = branch.children;
  }
  return true;
}

export function branchOf({ task, object, access, peer, seenBy }: PlannedStep): Branch {
  return { task, object, access, peer, seenBy, children: [], part: 0, outcome: null };
}

/** A branch and its first children, down to the last one: the order that is run first. */
export function firstLine(branch: Branch): Branch[] {
  const line = [branch];
  for (let next = branch.children[0]; next !== undefined; next = next.children[0]) line.push(next);
  return line;
}
