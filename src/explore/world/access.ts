/** How steps touch objects, and which steps of different tasks must keep their order. */
import type { Op } from '../../task/op.ts';
import { OpKind } from '../../task/op.ts';

/**
 * How a step touches its object. Two reads commute, and so do two shared acquires. No other pair commutes. A step that
 * touches ALL evaluates a condition over anything: it keeps its order with every step.
 */
export const Access = { READ: 0, SHARE: 1, WRITE: 2, ALL: 3 } as const;

const ACCESS_OF_KIND: readonly number[] = (() => {
  const access: number[] = [];
  for (const kind of Object.values(OpKind)) access[kind] = Access.WRITE;
  access[OpKind.READ] = Access.READ;
  access[OpKind.WAIT] = Access.READ;
  access[OpKind.READ_LOCK] = Access.SHARE;
  access[OpKind.READ_UNLOCK] = Access.SHARE;
  access[OpKind.TRY_READ_LOCK] = Access.SHARE;
  access[OpKind.EVALUATE] = Access.ALL;
  return access;
})();

/** The access of a step that was taken: an update or a trylock without a change was a read. */
export function accessTaken(op: Op): number {
  return op.changed ? ACCESS_OF_KIND[op.kind] : Access.READ;
}

/** The most that a step can do, since it may turn out differently in another order. */
export function accessAtMost(kind: number): number {
  return ACCESS_OF_KIND[kind];
}

/** The dependency rule. A mutant of the explorer weakens it, and the counts of the classics must then differ. */
export const rules = {
  dependent: (a: number, b: number): boolean => a !== b || a >= Access.WRITE,
};

/** Whether steps of this kind may turn out to be reads. */
export const isConditional = (kind: number): boolean =>
  kind === OpKind.UPDATE || kind === OpKind.TRY_LOCK || kind === OpKind.TRY_READ_LOCK;

export const isAcquire = (kind: number): boolean =>
  kind === OpKind.LOCK || kind === OpKind.READ_LOCK || kind === OpKind.TRY_LOCK || kind === OpKind.TRY_READ_LOCK;

/** A step as it is known before it is taken. */
export interface PlannedStep {
  readonly task: number;
  readonly object: number;
  readonly access: number;
  /** The task that it starts or joins, or -1. */
  readonly peer: number;
  /** The invariants that look at something that the step changes, one bit each. */
  readonly seenBy: number;
}

/** Whether two steps of different tasks must keep their order. */
export function conflict(a: PlannedStep, b: PlannedStep): boolean {
  if (a.access === Access.ALL || b.access === Access.ALL) return true;
  if (a.object === b.object && rules.dependent(a.access, b.access)) return true;
  return a.peer === b.task || b.peer === a.task || (a.seenBy & b.seenBy) !== 0;
}
