/** Leaves out of a timeline the steps that only repeat those above them. */
import type { ShownRun, ShownStep } from '../explore/world/schedule.ts';

/** The longest piece whose repetitions are found. */
const MAX_PERIOD = 32;
/** Fewer steps than this are not worth a line that says so. */
const MIN_HIDDEN = 4;

/** Steps that are left out: `first` to `last` repeat the `period` steps before them `times` times. */
export interface Fold {
  first: number;
  last: number;
  period: number;
  times: number;
}

/**
 * The steps to show in order, with a fold in place of those that repeat. The first repetition and the last one are
 * shown, since the states of the objects may differ. A fold never hides a step at which an invariant broke.
 */
export function* folded(run: ShownRun): Generator<ShownStep | Fold> {
  const { steps } = run;
  const keys = steps.map(keyOf);
  for (let at = 0; at < steps.length; ) {
    const fold = bestAt(keys, at, run.failsAt);
    if (fold === null) {
      yield steps[at];
      at += 1;
      continue;
    }
    yield* steps.slice(at, fold.first);
    yield fold;
    at = fold.last + 1;
  }
}

export function isFold(item: ShownStep | Fold): item is Fold {
  return 'period' in item;
}

/** `12 to 47: the 4 steps above, 9 times more`. */
export function foldInWords({ first, last, period, times }: Fold): string {
  const what = period === 1 ? 'the step above' : `the ${period} steps above`;
  return `${first} to ${last}: ${what}, ${times} times more`;
}

/** Two steps with the same key look the same to a reader, except for the object's state. */
function keyOf({ task, op, objectId, source, activity }: ShownStep): string {
  return JSON.stringify([task, op, objectId, source, activity]);
}

/** The fold that hides the most of the steps from `at` on; null if none is worth it. */
function bestAt(keys: readonly string[], at: number, failsAt: readonly number[]): Fold | null {
  let best: Fold | null = null;
  for (let period = 1; period <= MAX_PERIOD && at + 2 * period <= keys.length; period++) {
    let end = at + period;
    while (end < keys.length && keys[end] === keys[end - period]) end += 1;
    const times = Math.floor((end - at) / period) - 2;
    const hidden = times * period;
    if (hidden < MIN_HIDDEN || (best !== null && hidden <= best.last - best.first + 1)) continue;
    const fold = { first: at + period, last: at + period + hidden - 1, period, times };
    if (!failsAt.some((index) => index >= fold.first && index <= fold.last)) best = fold;
  }
  return best;
}
