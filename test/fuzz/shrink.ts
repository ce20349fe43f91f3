/** Reduces a list of steps to few that still fail (Zeller, "delta debugging"). */

/** Removes halves, quarters, and so on, down to single steps, until none can go or `mostMs` have passed. */
export function shrink<T>(steps: readonly T[], fails: (steps: readonly T[]) => boolean, mostMs: number): readonly T[] {
  const end = performance.now() + mostMs;
  let least = steps;
  for (let size = Math.ceil(least.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let at = 0; at < least.length && performance.now() < end; ) {
      const without = [...least.slice(0, at), ...least.slice(at + size)];
      if (fails(without)) least = without;
      else at += size;
    }
  }
  return least;
}
