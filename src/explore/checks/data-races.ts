/**
 * Finds data races: two unordered touches of a field, of which at least one is a change and at least one is not a step
 * of its own. The explorer treats such touches as harmless, so its results are worthless if they race. Uses of an
 * object that may be dead race in the same way, with the end of its `Lifetime`.
 *
 * The same things order touches as order steps: steps on one object of which one is a write, starts and joins. Clocks
 * are computed after a run, and only if something was touched.
 */

import { Lifetime } from '../../task/lifetime.ts';
import type { Op } from '../../task/op.ts';
import type { Touchable } from '../../task/runtime.ts';
import { runtime } from '../../task/runtime.ts';
import type { Shared } from '../../task/shared.ts';
import { TaskHandle } from '../../task/task-handle.ts';
import { Access, accessAtMost } from '../world/access.ts';
import type { Finding } from '../world/finding.ts';
import { callerLine } from '../world/stacks.ts';

interface Touch {
  task: number;
  what: Touchable;
  isChange: boolean;
  /** A step on a cell. It races only with touches. */
  isStep: boolean;
  /** The number of steps taken before it. */
  at: number;
  /** `file:line` if a tracer is set, else empty. */
  source: string;
}

type Clock = number[];

/** The steps and touches of one run. */
export class TouchLog {
  private readonly tasks: number[] = [];
  /** Null for a start. */
  private readonly objects: (Shared | null)[] = [];
  private readonly accesses: number[] = [];
  /** The task that a step started, or -1. */
  private readonly children: number[] = [];
  private readonly touches: Touch[] = [];

  /** Records a step that was performed, before its task goes on. */
  step(task: number, op: Op): void {
    this.push(task, op.object, op.changed ? Math.min(accessAtMost(op.kind), Access.WRITE) : Access.READ, -1);
  }

  /** Records that a task starts another, which has not done anything yet. */
  started(task: number, child: number): void {
    this.push(task, null, Access.WRITE, child);
  }

  onAccess(task: number, what: Touchable, isChange: boolean): void {
    const source = runtime.tracer === null ? '' : callerLine();
    this.touches.push({ task, what, isChange, isStep: false, at: this.tasks.length, source });
  }

  /** Returns the first race, or null. `label` names a task. */
  race(label: (task: number) => string, numberOf: (handle: TaskHandle) => number): Finding | null {
    const touchedCells = new Set<object>(this.touches.map((touch) => touch.what));
    const clocks = new Clocks();
    const seen = new Map<object, { touch: Touch; epoch: number }[]>();
    let next = 0;
    for (let at = 0; at <= this.tasks.length; at++) {
      for (; next < this.touches.length && this.touches[next].at === at; next++) {
        const other = note(seen, clocks, this.touches[next]);
        if (other !== null) return found(other, this.touches[next], label);
      }
      if (at === this.tasks.length) break;
      const object = this.objects[at];
      if (object !== null && touchedCells.has(object)) {
        const isChange = this.accesses[at] === Access.WRITE;
        const touch = { task: this.tasks[at], what: object, isChange, isStep: true, at, source: '' };
        const other = note(seen, clocks, touch);
        if (other !== null) return found(other, touch, label);
      }
      this.advance(clocks, at, numberOf);
    }
    return null;
  }

  private push(task: number, object: Shared | null, access: number, child: number): void {
    this.tasks.push(task);
    this.objects.push(object);
    this.accesses.push(access);
    this.children.push(child);
  }

  private advance(clocks: Clocks, at: number, numberOf: (handle: TaskHandle) => number): void {
    const task = this.tasks[at];
    const object = this.objects[at];
    const clock = clocks.of(task);
    if (object instanceof TaskHandle) join(clock, clocks.of(numberOf(object)));
    else if (object !== null) {
      const { byWriters, byReaders } = clocks.handover(object);
      join(clock, byWriters);
      if (this.accesses[at] === Access.WRITE) join(clock, byReaders);
      join(this.accesses[at] === Access.WRITE ? byWriters : byReaders, clock);
    }
    if (this.children[at] >= 0) join(clocks.of(this.children[at]), clock);
    clock[task] += 1;
  }
}

/** Records a touch; returns an earlier one with which it races, or null. */
function note(seen: Map<object, { touch: Touch; epoch: number }[]>, clocks: Clocks, touch: Touch): Touch | null {
  const clock = clocks.of(touch.task);
  let earlier = seen.get(touch.what);
  if (earlier === undefined) {
    earlier = [];
    seen.set(touch.what, earlier);
  }
  for (const { touch: other, epoch } of earlier) {
    if (other.task === touch.task || !(other.isChange || touch.isChange) || (other.isStep && touch.isStep)) continue;
    if (epoch > (clock[other.task] ?? 0)) return other;
  }
  earlier.push({ touch, epoch: clock[touch.task] });
  return null;
}

/** The clocks that an object passes from earlier touches to later ones. */
interface Handover {
  byWriters: Clock;
  byReaders: Clock;
}

class Clocks {
  private readonly tasks: Clock[] = [];
  private readonly objects = new Map<Shared, Handover>();

  of(task: number): Clock {
    let clock = this.tasks[task];
    if (clock === undefined) {
      clock = [];
      clock[task] = 1;
      this.tasks[task] = clock;
    }
    return clock;
  }

  handover(object: Shared): Handover {
    let handover = this.objects.get(object);
    if (handover === undefined) {
      handover = { byWriters: [], byReaders: [] };
      this.objects.set(object, handover);
    }
    return handover;
  }
}

function join(into: Clock, from: Clock): void {
  for (let task = 0; task < from.length; task++) {
    const value = from[task] ?? 0;
    if (value > (into[task] ?? 0)) into[task] = value;
  }
}

function found(a: Touch, b: Touch, label: (task: number) => string): Finding {
  const isDeath = a.what instanceof Lifetime;
  const verbs = isDeath ? ['uses', 'frees'] : ['reads', 'changes'];
  const of = ({ task, isChange, source }: Touch, name: string): string =>
    `${label(task)} ${verbs[isChange ? 1 : 0]} ${name}${source === '' ? '' : ` (${source})`}`;
  const both = `${of(a, a.what.label)} and ${of(b, 'it')}, and nothing orders the two`;
  const message = `${isDeath ? 'use after free' : 'data race'}: ${both}`;
  const steps = [a.at - 1, b.isStep ? b.at : b.at - 1];
  return { invariant: isDeath ? 'I5' : 'race', message, subjects: [a.what], steps };
}
