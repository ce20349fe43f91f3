/**
 * A comparable key for a state: each task's progress and the results that it got, the objects of task/ that have
 * changed since they were made, and the other state that the program declares as shared.
 */
import { Mutex, RwSemaphore } from '../../task/lock.ts';
import { Shared } from '../../task/shared.ts';
import { TaskHandle } from '../../task/task-handle.ts';
import type { Execution } from './execution.ts';

/** The program does not declare comparable states, or contains something that cannot be compared. */
export class NotComparableError extends Error {}

/** The state of one object, as a text that is equal for equal states. */
interface WatchedObject {
  readonly object: Shared;
  readonly first: string;
}

/** Follows one run. All runs that share `histories` use the same numbers for histories. */
export class StateKey {
  /** The number for a task's past, by the number of its earlier past and its latest result. */
  private readonly histories: Map<string, number>;
  private readonly execution: Execution;
  private readonly watched = new Map<number, WatchedObject>();
  private readonly sharing: () => readonly unknown[];
  /** The number of each task's past. */
  private seen: number[] = [];

  constructor(execution: Execution, histories: Map<string, number>) {
    if (execution.comparable === null) {
      throw new NotComparableError('the program does not say that its states can be compared');
    }
    this.execution = execution;
    this.histories = histories;
    this.sharing = execution.comparable;
  }

  /** Takes the pending step of a task. */
  step(task: number): void {
    const { execution } = this;
    const { kind, object } = execution.pending[task]!;
    if (!this.watched.has(object.serial)) this.watched.set(object.serial, { object, first: this.stateOf(object) });
    execution.step(task);
    const told = `${this.seen[task] ?? 0}|${kind}|${object.serial}|${inWords(execution.result)}`;
    let history = this.histories.get(told);
    if (history === undefined) {
      history = this.histories.size + 1;
      this.histories.set(told, history);
    }
    this.seen[task] = history;
  }

  key(): string {
    const { execution } = this;
    if (execution.hasLifetimes) throw new NotComparableError('the program makes things that can be freed');
    const tasks = execution.pending.map((op, task) => {
      const next = op === null ? execution.handles[task].state : `${op.kind}:${op.object.serial}`;
      return `${this.seen[task] ?? 0}>${next}`;
    });
    const objects: string[] = [];
    for (const [serial, { object, first }] of this.watched) {
      const now = this.stateOf(object);
      if (now !== first) objects.push(`${serial}=${now}`);
    }
    return `${tasks.join()};${objects.sort().join()};${this.sharing().map(inWords).join()}`;
  }

  private stateOf(object: Shared): string {
    if (object instanceof Mutex) return this.nameOf(object.owner);
    if (object instanceof RwSemaphore) {
      return `${this.nameOf(object.writer)}/${object.readers.map((reader) => this.nameOf(reader)).sort()}`;
    }
    return object instanceof TaskHandle ? object.state : inWords(object.snapshot());
  }

  private nameOf(task: TaskHandle | null): string {
    return task === null ? '' : `${this.execution.handles.indexOf(task)}`;
  }
}

/** A text that is equal exactly for equal values. Throws NotComparableError for a value without such a text. */
function inWords(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value);
  if (value === null || typeof value !== 'object') {
    if (typeof value === 'function' || typeof value === 'symbol') throw notComparable(value);
    return `${value}${typeof value === 'bigint' ? 'n' : ''}`;
  }
  if (value instanceof Shared) return `#${value.serial}`;
  if (Array.isArray(value) || ArrayBuffer.isView(value)) return `[${Array.from(value as number[], inWords).join()}]`;
  if (Object.getPrototypeOf(value) === Object.prototype) {
    return `{${Object.entries(value)
      .map(([key, inside]) => `${key}:${inWords(inside)}`)
      .sort()}}`;
  }
  if (value instanceof Set) return `{${Array.from(value, inWords).sort().join()}}`;
  if (value instanceof Map)
    return `{${Array.from(value, (entry) => inWords(entry))
      .sort()
      .join()}}`;
  throw notComparable(value);
}

function notComparable(value: unknown): NotComparableError {
  const what = typeof value === 'object' ? (value?.constructor?.name ?? 'an object') : typeof value;
  return new NotComparableError(`a task is told, or shares, a value that cannot be compared: ${what}`);
}
