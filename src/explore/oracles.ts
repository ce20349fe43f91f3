/** What is looked at when a run ends. What can be seen within a step, the objects themselves look at (InvariantError). */
import { Lock } from '../task/lock.ts';
import { TaskHandle } from '../task/runner.ts';
import type { Finding, World } from './world.ts';

/** The finding of a run in which no task can take a step any more; null where all is well. */
export function checkEnd(world: World): Finding | null {
  if (world.finding !== null) return world.finding;
  const stuck = world.unfinished();
  if (stuck.length > 0) return { invariant: 'I4', message: deadlockMessage(world, stuck) };
  const finding = world.finish();
  if (finding !== null) return finding;
  const survivors = world.survivors();
  if (survivors.length === 0) return null;
  const list = survivors.map(({ lifetime, bornAt }) => `${lifetime.label} (made after step ${bornAt})`);
  return { invariant: 'I3', message: `never freed: ${list.join(', ')}` };
}

/** Who waits for what, and who has it. */
function deadlockMessage(world: World, stuck: readonly number[]): string {
  const waits = stuck.map((task) => {
    const op = world.pending[task]!;
    const state = op.object.describe();
    const what = op.object instanceof TaskHandle ? `join ${op.object.label}` : op.toString();
    const held = op.object instanceof Lock ? `, ${state}` : state === '' ? '' : `, now ${state}`;
    return `${world.handles[task].label} waits at ${what}${held}`;
  });
  return `deadlock: ${waits.join('; ')}`;
}
