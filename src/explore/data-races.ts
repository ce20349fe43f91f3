/**
 * Data races on `Plain` fields: two touches, at least one of them a change, between which nothing makes sure who comes
 * first. What orders tasks here is what orders them in production: a release and a later acquire of the same object, a
 * spawn, a join. Clocks are computed when a run has ended, and only where such fields were touched at all.
 */
import type { Op, Shared } from '../task/op.ts';
import { OpKind, runtime } from '../task/op.ts';
import type { Plain } from '../task/plain.ts';
import { TaskHandle } from '../task/runner.ts';

interface Touch {
  task: number;
  field: Plain<unknown>;
  isChange: boolean;
  /** How many steps had been taken. */
  at: number;
  /** `file:line`, where somebody asked for it. */
  source: string;
}

type Clock = number[];

/** What an object hands from those who let go of it to those who take it. */
interface Handover {
  byWriters: Clock;
  byReaders: Clock;
}

const ACQUIRES_ALL = new Set<number>([OpKind.LOCK, OpKind.TRY_LOCK, OpKind.UPDATE]);
const ACQUIRES = new Set<number>([OpKind.READ_LOCK, OpKind.TRY_READ_LOCK, OpKind.READ, OpKind.WAIT]);
const RELEASES = new Set<number>([OpKind.UNLOCK, OpKind.WRITE, OpKind.UPDATE]);

/** The steps and touches of one run. */
export class TouchLog {
  private readonly tasks: number[] = [];
  /** Null for a start. */
  private readonly objects: (Shared | null)[] = [];
  private readonly kinds: number[] = [];
  /** The task that a step started, or -1. */
  private readonly children: number[] = [];
  private readonly touches: Touch[] = [];

  /** A step that was performed, before its task goes on. */
  step(task: number, op: Op): void {
    // A trylock that failed neither acquires nor releases.
    this.push(task, op.object, op.changed || op.kind === OpKind.UPDATE ? op.kind : -1, -1);
  }

  /** A task starts another, which has not done anything yet. */
  started(task: number, child: number): void {
    this.push(task, null, OpKind.SPAWN, child);
  }

  touched(task: number, field: Plain<unknown>, isChange: boolean): void {
    const source = runtime.tracer === null ? '' : callerLine();
    this.touches.push({ task, field, isChange, at: this.tasks.length, source });
  }

  /** The first race, as a sentence; null where there is none. `label` names a task. */
  race(label: (task: number) => string, numberOf: (handle: TaskHandle) => number): string | null {
    const clocks = new Clocks();
    const seen = new Map<Plain<unknown>, { touch: Touch; epoch: number }[]>();
    let next = 0;
    for (let at = 0; at <= this.tasks.length; at++) {
      for (; next < this.touches.length && this.touches[next].at === at; next++) {
        const touch = this.touches[next];
        const clock = clocks.of(touch.task);
        const earlier = seen.get(touch.field) ?? [];
        const other = earlier.find(
          (one) =>
            (one.touch.isChange || touch.isChange) &&
            one.touch.task !== touch.task &&
            one.epoch > (clock[one.touch.task] ?? 0),
        );
        if (other !== undefined) return sentence(other.touch, touch, label);
        earlier.push({ touch, epoch: clock[touch.task] });
        seen.set(touch.field, earlier);
      }
      if (at < this.tasks.length) this.advance(clocks, at, numberOf);
    }
    return null;
  }

  private push(task: number, object: Shared | null, kind: number, child: number): void {
    this.tasks.push(task);
    this.objects.push(object);
    this.kinds.push(kind);
    this.children.push(child);
  }

  private advance(clocks: Clocks, at: number, numberOf: (handle: TaskHandle) => number): void {
    const task = this.tasks[at];
    const object = this.objects[at];
    const kind = this.kinds[at];
    const clock = clocks.of(task);
    if (object instanceof TaskHandle) {
      if (kind === OpKind.WAIT) join(clock, clocks.of(numberOf(object)));
    } else if (object !== null) {
      const handover = clocks.handover(object);
      if (ACQUIRES_ALL.has(kind)) {
        join(clock, handover.byWriters);
        join(clock, handover.byReaders);
      } else if (ACQUIRES.has(kind)) join(clock, handover.byWriters);
      if (RELEASES.has(kind)) join(handover.byWriters, clock);
      if (kind === OpKind.READ_UNLOCK) join(handover.byReaders, clock);
    }
    if (this.children[at] >= 0) join(clocks.of(this.children[at]), clock);
    clock[task] += 1;
  }
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

function sentence(a: Touch, b: Touch, label: (task: number) => string): string {
  const of = ({ task, isChange, source }: Touch, first: boolean): string => {
    const verb = isChange ? 'changes' : 'reads';
    return `${label(task)} ${verb} ${first ? a.field.label : 'it'}${source === '' ? '' : ` (${source})`}`;
  };
  return `data race: ${of(a, true)} and ${of(b, false)}, and nothing orders the two`;
}

/** The first line outside of task/ and of this file that a stack names. */
export function callerLine(): string {
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = 24;
  const stack = new Error().stack ?? '';
  Error.stackTraceLimit = limit;
  for (const frame of stack.split('\n').slice(1)) {
    const match = /((?:src|test|examples)\/[\w./-]+\.ts):(\d+)/.exec(frame);
    if (match === null || /^src\/(task|explore\/(data-races|schedule|world|stacks))/.test(match[1])) continue;
    return `${match[1]}:${match[2]}`;
  }
  return '';
}
