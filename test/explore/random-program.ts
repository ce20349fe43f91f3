/** Small random programs over every primitive of task/, to compare searches with every possible order. */

import { Random } from '../../src/explore/search/random.ts';
import type { Execution } from '../../src/explore/world/execution.ts';
import type { Stage } from '../../src/explore/world/program.ts';
import { Cell } from '../../src/task/cell.ts';
import { Completion } from '../../src/task/completion.ts';
import { InvariantError } from '../../src/task/lifetime.ts';
import { Mutex, RwSemaphore } from '../../src/task/lock.ts';
import type { Task } from '../../src/task/op.ts';
import { Plain } from '../../src/task/plain.ts';
import { Refcount } from '../../src/task/refcount.ts';
import { spawn } from '../../src/task/runner.ts';
import { WaitQueue } from '../../src/task/wait-queue.ts';
import type { ObservableProgram } from './every-order.ts';

interface Action {
  name: string;
  /** The index of one of two objects of a kind. */
  object: 0 | 1;
  value: 1 | 2;
  /** The action while a lock is held. */
  inner: string;
}

interface Shape {
  tasks: Action[][];
  /** The step at which the first task starts another one; -1 for never. */
  spawnAt: number;
  invariants: Invariant[];
}

/**
 * The way in which an invariant looks at its objects: `all` of them; a `chain` of them up to the first one without a
 * value; `pick` looks at the first one, whose value chooses another one. `breaks` is a chain that must not reach its
 * end.
 */
type LookMode = 'all' | 'chain' | 'pick' | 'breaks';
const LOOK_MODES: readonly LookMode[] = ['all', 'all', 'all', 'chain', 'chain', 'pick', 'pick', 'breaks'];

interface Invariant {
  labels: Label[];
  mode: LookMode;
}

type Label = 'x' | 'y' | 'box' | 'count' | 'done' | 'guarded0' | 'guarded1' | 'flag';
const LABELS: readonly Label[] = ['x', 'y', 'x', 'y', 'box', 'count', 'done', 'guarded0', 'guarded1', 'flag'];

type Note = (what: unknown) => void;
type Act = (objects: Objects, action: Action, note: Note) => Task;

/** The objects of one execution. */
class Objects {
  readonly cells = [new Cell('x', 0), new Cell('y', 0)];
  readonly box = new Cell('box', { value: 0 });
  /** Touched only under the mutex with the same index. */
  readonly guarded = [new Plain('guarded0', 0), new Plain('guarded1', 0)];
  readonly mutexes = [new Mutex({ name: 'm0' }), new Mutex({ name: 'm1' })];
  readonly rw = new RwSemaphore({ name: 'rw' });
  readonly completion = new Completion('done');
  readonly count = new Refcount('count', 1);
  readonly queue = new WaitQueue('queue');
  /** The condition of the tasks in the queue; changed under the first mutex. */
  flag = 0;
  /** Labels of the objects that changed besides the step's own. */
  changed: string[] = [];

  setGuarded(object: number, value: number): void {
    this.guarded[object].set(value);
    this.changed.push(`guarded${object}`);
  }

  look(label: Label): number | boolean {
    if (label === 'x') return this.cells[0].value;
    if (label === 'y') return this.cells[1].value;
    if (label === 'box') return this.box.value.value;
    if (label === 'count') return this.count.value;
    if (label === 'done') return this.completion.isDone;
    return label === 'flag' ? 0 : this.guarded[label === 'guarded0' ? 0 : 1].get();
  }
}

/** Actions while a lock is held. They never wait for actions of others under that lock. */
const INNER: Record<string, Act> = {
  nothing: function* () {},
  load: function* ({ cells }, { object }, note) {
    note(yield* cells[object].load());
  },
  store: ({ cells }, { object, value }) => cells[object].store(value),
  compareExchange: function* ({ cells }, { object, value }, note) {
    note(yield* cells[object].compareExchange(value - 1, value));
  },
  tryWrite: function* ({ rw }, _, note) {
    const isTaken = yield* rw.tryWrite();
    note(isTaken);
    if (isTaken) yield* rw.releaseWrite();
  },
  tryRead: function* ({ rw }, _, note) {
    const isTaken = yield* rw.tryRead();
    note(isTaken);
    if (isTaken) yield* rw.releaseRead();
  },
  tryLock: function* (objects, { object, value }, note) {
    const mutex = objects.mutexes[object];
    const isTaken = yield* mutex.tryLock();
    note(isTaken);
    if (!isTaken) return;
    if (value === 2) note(objects.guarded[object].get());
    else objects.setGuarded(object, 5);
    yield* mutex.unlock();
  },
  tryGet: function* ({ count }, _, note) {
    const isTaken = yield* count.tryGet();
    note(isTaken);
    if (isTaken) note(yield* count.put());
  },
  test: function* ({ completion }, _, note) {
    note(yield* completion.test());
  },
};

const OUTER: Record<string, Act> = {
  ...INNER,
  update: function* ({ cells }, { object, value }, note) {
    note(yield* cells[object].update((now) => Math.max(now, value)));
  },
  add: function* ({ cells }, { object, value }) {
    yield* cells[object].update((now) => now + value);
  },
  waitUntil: ({ cells }, { object, value }) => cells[object].waitUntil((now) => now === value),
  waitWhile: ({ cells }, { object, value }) => cells[object].waitUntil((now) => now !== value),
  lookInside: function* ({ box }, _, note) {
    note(yield* box.loadFor(({ value }) => value));
  },
  changeInside: function* ({ box }, { value }, note) {
    note(yield* box.changeFor((inside) => (inside.value += value)));
  },
  waitInside: ({ box }, { value }) => box.waitUntil((inside) => inside.value >= value),
  locked: function* (objects, action, note) {
    const { object, value } = action;
    const mutex = objects.mutexes[object];
    yield* mutex.lock();
    note(objects.guarded[object].get());
    yield* act(objects, { ...action, name: action.inner, object: object === 0 ? 1 : 0 }, note);
    if (value === 2) objects.setGuarded(object, objects.guarded[object].get() + 1);
    yield* mutex.unlock();
  },
  read: function* (objects, action, note) {
    yield* objects.rw.read();
    yield* act(objects, { ...action, name: action.inner }, note);
    yield* objects.rw.releaseRead();
  },
  write: function* (objects, action, note) {
    yield* objects.rw.write();
    yield* act(objects, { ...action, name: action.inner }, note);
    yield* objects.rw.releaseWrite();
  },
  tryBoth: function* ({ rw, cells }, { object }, note) {
    if (yield* rw.tryRead()) {
      note(yield* cells[object].load());
      yield* rw.releaseRead();
    } else if (yield* rw.tryWrite()) yield* rw.releaseWrite();
    else note('neither');
  },
  complete: ({ completion }) => completion.complete(),
  reinit: ({ completion }) => completion.reinit(),
  wait: ({ completion }) => completion.wait(),
  hold: function* (objects, action, note) {
    if (!(yield* objects.count.tryGet())) return;
    yield* act(objects, { ...action, name: action.inner }, note);
    note(yield* objects.count.put());
  },
  waitForZero: ({ count }) => count.waitForZero(),
  resetCount: ({ count }, { value }) => count.set(value),
  raise: function* (objects, { value }) {
    yield* objects.mutexes[0].lock();
    objects.flag = value;
    yield* objects.mutexes[0].unlock();
    yield* objects.queue.wake();
  },
  sleep: (objects, { value }) => objects.queue.waitUntil(() => objects.flag >= value),
};

function act(objects: Objects, action: Action, note: Note): Task {
  return OUTER[action.name](objects, action, note);
}

const INNER_NAMES = Object.keys(INNER);
const OUTER_NAMES = Object.keys(OUTER);
/** The actions of one step that never wait. Programs of these alone are dense: every step races with many. */
const CORE_NAMES = ['load', 'load', 'store', 'store', 'compareExchange', 'update'];

function shapeOf(seed: number, more: number): Shape {
  const random = new Random(seed * 7919);
  for (let i = 0; i < 5; i++) random.below(2);
  const pick = <T>(list: readonly T[]): T => list[random.below(list.length)];
  // Few kinds of actions in one program, so that they interact.
  const all = seed % 4 === 2 ? CORE_NAMES : OUTER_NAMES;
  const names = Array.from({ length: 2 + random.below(4) }, () => pick(all));
  const count = 2 + random.below(2);
  const tasks = Array.from({ length: count }, () =>
    Array.from({ length: 1 + random.below((count === 2 ? 4 : 2) + more) }, () => ({
      name: pick(names),
      object: pick([0, 0, 1] as const),
      value: pick([1, 2] as const),
      inner: pick(INNER_NAMES),
    })),
  );
  const spawnAt = random.below(4) === 0 ? random.below(2) : -1;
  const looks = Array.from({ length: Math.max(0, random.below(4) - 1) }, () =>
    Array.from({ length: 1 + random.below(3) }, () => pick(LABELS)),
  );
  const invariants = looks.map((labels) => ({ labels, mode: pick(LOOK_MODES) }));
  return { tasks, spawnAt, invariants };
}

/** The program of a seed, the same every time. Each task has up to `more` more actions than usual. */
export function randomProgram(seed: number, more = 0): ObservableProgram & { outcomeAtEnd(): string } {
  const shape = shapeOf(seed, more);
  const looked = shape.invariants.map(() => new Set<string>());
  let now: RandomRun;
  return {
    name: `random:${seed}`,
    summary: 'a small random program',
    looked,
    build(stage: Stage): void {
      const run = new RandomRun(shape);
      now = run;
      stage.comparesBy(() => run.shared);
      const first = shape.spawnAt < 0 ? 0 : 1;
      for (let i = first; i < shape.tasks.length; i++) stage.spawn(`task${i}`, run.task(i));
      if (first === 1) stage.spawn('task0', run.taskThatSpawns(0, shape.spawnAt));
      for (const [i, invariant] of shape.invariants.entries()) {
        stage.afterEach(() => run.look(invariant, looked[i]));
      }
    },
    outcome: (execution) => now.outcome(execution),
    outcomeAtEnd: () => now.outcome(null),
    takeChanged: () => now.takeChanged(),
    seen: () => now.seen,
  };
}

class RandomRun {
  readonly seen: string[] = [];
  private readonly shape: Shape;
  private readonly objects = new Objects();
  private readonly notes: string[] = [];

  constructor(shape: Shape) {
    this.shape = shape;
    for (const index of shape.tasks.keys()) this.notes[index] = '';
  }

  /** The state that tasks share beside the objects of task/. */
  get shared(): unknown[] {
    const { guarded, flag, box } = this.objects;
    return [guarded[0].get(), guarded[1].get(), flag, box.value.value, this.notes];
  }

  /** If every task of the run ended, `execution` may be null. */
  outcome(execution: Execution | null): string {
    const stuck = execution?.unfinished().map((task) => execution.handles[task].label) ?? [];
    const { cells, box, count, guarded, flag } = this.objects;
    const values = [cells[0].value, cells[1].value, box.value.value, count.value, guarded[0].get(), guarded[1].get()];
    return [...this.notes, ...values, flag, stuck.sort().join('+'), execution?.finding?.message ?? ''].join('|');
  }

  takeChanged(): readonly string[] {
    const { changed } = this.objects;
    this.objects.changed = [];
    return changed;
  }

  /** Looks as the invariant does, and adds the labels that it looks at to `looked`. */
  look({ labels, mode }: Invariant, looked: Set<string>): void {
    const values: (number | boolean)[] = [];
    const look = (label: Label): number | boolean => {
      looked.add(label);
      values.push(this.objects.look(label));
      return values[values.length - 1];
    };
    if (mode === 'all') labels.forEach(look);
    else if (mode === 'pick') look(labels[Number(look(labels[0])) % labels.length]);
    else if (labels.every(look) && mode === 'breaks') throw new InvariantError('I1', `${labels} have values`);
    this.seen.push(`${mode} ${labels}: ${values}`);
  }

  *task(index: number): Task {
    for (const action of this.shape.tasks[index]) yield* this.act(index, action);
  }

  *taskThatSpawns(index: number, at: number): Task {
    const extra = this.shape.tasks.length;
    this.notes[extra] = '';
    for (const [i, action] of this.shape.tasks[index].entries()) {
      if (i !== at) yield* this.act(index, action);
      else {
        const child = yield* spawn('extra', this.act(extra, action));
        if (action.value === 2) yield* child.join();
      }
    }
  }

  private act(index: number, action: Action): Task {
    return act(this.objects, action, (what) => {
      this.notes[index] += `${what},`;
    });
  }
}
