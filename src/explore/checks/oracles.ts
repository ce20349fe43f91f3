/** Checks the end of a run. The objects (InvariantError) and the program's `afterEach` check the single steps. */

import { Lock, Mutex, RwSemaphore } from '../../task/lock.ts';
import { TaskHandle } from '../../task/task-handle.ts';
import { lostWakeUp } from '../../task/wait-queue.ts';
import type { Execution } from '../world/execution.ts';
import type { Finding } from '../world/finding.ts';
import { writerAhead } from './fair-queues.ts';

/** The finding of a run in which no task can take another step; null if nothing is wrong. */
export function checkEnd(execution: Execution): Finding | null {
  if (execution.finding !== null) return execution.finding;
  const stuck = execution.unfinished();
  if (stuck.length > 0) return explainStuck(execution, stuck);
  const race = execution.dataRace();
  if (race !== null) return race;
  const kept = execution.locks.find((lock) => holdersOf(lock).length > 0);
  if (kept !== undefined) return { invariant: 'I4', message: `never let go: ${kept.label}, ${kept.describe()}` };
  const finding = execution.finish();
  if (finding !== null) return finding;
  const survivors = execution.survivors();
  if (survivors.length === 0) return null;
  const list = survivors.map(
    ({ lifetime, bornAt }) => `${lifetime.label} (made ${bornAt === 0 ? 'before the run' : `at step ${bornAt - 1}`})`,
  );
  const subjects = survivors.map(({ lifetime }) => lifetime);
  const steps = survivors.map(({ bornAt }) => bornAt - 1).filter((step) => step >= 0);
  return { invariant: 'I3', message: `never freed: ${list.join(', ')}`, subjects, steps };
}

/**
 * Explains why tasks cannot go on. A wait for a freed object is a use of it (I5). A condition that became true without
 * a wake-up is a lost wake-up (I4). A task that holds a lock while it waits for something other than a lock holds the
 * lock without bound (I7), and others wait behind it. Every other case is a deadlock (I4).
 */
function explainStuck(execution: Execution, stuck: readonly number[]): Finding {
  const waits = stuck.map((task) => `${execution.handles[task].label} waits at ${waitOf(execution, task)}`);
  const orphan = stuck.find((task) => execution.pending[task]!.isRefused);
  if (orphan !== undefined) {
    const { lifetime } = execution.pending[orphan]!.object;
    const message = `${waits.join('; ')}, after ${lifetime!.label} was freed`;
    return { invariant: 'I5', message, subjects: [lifetime!] };
  }
  for (const task of stuck) {
    const queue = lostWakeUp(execution.pending[task]!);
    if (queue === null) continue;
    const { lastWaker, label } = queue;
    const wake = lastWaker === null ? `nobody ever woke ${label}` : `${lastWaker.label} woke ${label} before it held`;
    const what = `${execution.handles[task].label} waits at ${label} for a condition that holds; ${wake}`;
    return { invariant: 'I4', message: `lost wake-up: ${what}; ${waits.join('; ')}` };
  }
  for (const task of stuck) {
    const op = execution.pending[task]!;
    if (op.object instanceof Lock || op.object instanceof TaskHandle) continue;
    const held = locksOf(execution, execution.handles[task]);
    if (held.length === 0) continue;
    const names = held.map((lock) => lock.label).join(' and ');
    const message = `held without bound: ${execution.handles[task].label} holds ${names}; ${waits.join('; ')}`;
    return { invariant: 'I7', message };
  }
  return { invariant: 'I4', message: `deadlock: ${waits.join('; ')}` };
}

/** What a task waits for, and which task holds it. */
function waitOf(execution: Execution, task: number): string {
  const op = execution.pending[task]!;
  if (op.object instanceof TaskHandle) return `join ${op.object.label}`;
  const state = op.object.describe();
  const holders = holdersOf(op.object);
  const gone = holders.filter((holder) => holder.ended).map((holder) => holder.label);
  const ended = gone.length === 0 ? '' : ` (${gone.join(', ')} ended without letting go)`;
  const ahead = writerAhead(execution, task);
  const behind = ahead === null ? '' : `, behind ${ahead.label}, which waits to write`;
  if (op.object instanceof Lock) return `${op}, ${state}${ended}${behind}`;
  return state === '' ? op.toString() : `${op}, now ${state}`;
}

function holdersOf(object: object): readonly TaskHandle[] {
  if (object instanceof Mutex) return object.owner === null ? [] : [object.owner];
  if (!(object instanceof RwSemaphore)) return [];
  return object.writer === null ? object.readers : [object.writer];
}

/** The locks that a task holds, in the order in which it took them. */
function locksOf(execution: Execution, task: TaskHandle): Lock[] {
  return execution.locks.filter((lock) => holdersOf(lock).includes(task));
}
