/** Commands of random programs without names: three numbers choose among the objects that exist when a command runs. */
import type { Random } from '../../../src/explore/search/random.ts';

/** The fewest commands of a program. */
export const MIN_COMMANDS = 4;

/** Draws a command. `weights` say how often each verb comes, relative to the others. */
export function randomCommand<V extends string>(random: Random, weights: Readonly<Record<V, number>>) {
  return { verb: random.weighted(weights), a: random.below(256), b: random.below(256), c: random.below(256) };
}
