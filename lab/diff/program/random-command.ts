/** Commands of random programs, before names are given: three numbers choose among what there is by then. */
import type { Random } from '../../../src/explore/search/random.ts';

/** The fewest commands of a program. */
export const MIN_COMMANDS = 4;

/** `weights` say how often each verb comes, relative to the others. */
export function randomCommand<V extends string>(random: Random, weights: Readonly<Record<V, number>>) {
  return { verb: random.weighted(weights), a: random.below(256), b: random.below(256), c: random.below(256) };
}
