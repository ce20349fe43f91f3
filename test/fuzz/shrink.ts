/** Reduces a list of steps to few that still fail (Zeller, "delta debugging"). */

const MAX_SHRINK_MS = 20_000;

/** Removes halves, quarters, and so on, down to single steps, until none can go or `mostMs` have passed. */
export async function shrink<T>(
  steps: readonly T[],
  fails: (steps: readonly T[]) => boolean | Promise<boolean>,
  mostMs: number,
): Promise<readonly T[]> {
  const end = performance.now() + mostMs;
  let least = steps;
  for (let size = Math.ceil(least.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let at = 0; at < least.length && performance.now() < end; ) {
      const without = [...least.slice(0, at), ...least.slice(at + size)];
      if (await fails(without)) least = without;
      else at += size;
    }
  }
  return least;
}

/**
 * The fewest steps that `run` ends with an error of the same words, whatever op it names first, as text. Where time
 * decides, `tries` says how often they may fail to repeat it.
 */
export async function shortest<T>(
  steps: readonly T[],
  found: Error,
  run: (steps: readonly T[]) => void | Promise<void>,
  { asText = JSON.stringify, tries = 1 }: { asText?: (step: T) => string; tries?: number } = {},
): Promise<string> {
  const kind = (error: Error) => error.message.replace(/^\w+: /, '').replace(/0x[0-9a-f]+|\d+/g, 'N');
  const fails = async (some: readonly T[]) => {
    for (let left = tries; left > 0; left--) {
      try {
        await run(some);
      } catch (error) {
        if (kind(error as Error) === kind(found)) return true;
      }
    }
    return false;
  };
  const least = await shrink(steps, fails, MAX_SHRINK_MS);
  const lines = least.map((step) => `  ${asText(step)}`);
  return `${least.length} of ${steps.length} steps suffice (test/fuzz/found/):\n${lines.join('\n')}`;
}
