/** Small random programs, to compare the reductions with brute force: every outcome must be found by both. */

import { Random } from '../../src/explore/search/random.ts';
import type { Execution } from '../../src/explore/world/execution.ts';
import type { Program, Stage } from '../../src/explore/world/program.ts';
import { Cell } from '../../src/task/cell.ts';
import { Completion } from '../../src/task/completion.ts';
import { Mutex, RwSemaphore } from '../../src/task/lock.ts';
import type { Task } from '../../src/task/op.ts';
import { spawn } from '../../src/task/runner.ts';

interface Action {
  kind: number;
  object: number;
  value: number;
}

interface Shape {
  tasks: Action[][];
  /** A task that the first one starts along the way, at this step; -1 for none. */
  spawnAt: number;
}

const KINDS = 12;

function shapeOf(seed: number): Shape {
  const random = new Random(seed * 7919);
  for (let i = 0; i < 5; i++) random.below(2);
  const count = 2 + random.below(2);
  const tasks = Array.from({ length: count }, () =>
    Array.from({ length: 1 + random.below(count === 2 ? 3 : 2) }, () => ({
      kind: random.below(KINDS),
      object: random.below(2),
      value: 1 + random.below(2),
    })),
  );
  return { tasks, spawnAt: random.below(3) === 0 ? random.below(2) : -1 };
}

/** What a run came to: what each task saw, the final values, and who was left waiting. */
export interface RandomProgram extends Program {
  /** Called by the comparison at the end of each run. */
  outcome(execution: Execution): string;
}

export function randomProgram(seed: number): RandomProgram {
  const shape = shapeOf(seed);
  let bench: Bench;
  return {
    name: `random:${seed}`,
    summary: 'a small random program',
    build(stage: Stage): void {
      const now = new Bench(shape);
      bench = now;
      stage.comparesBy(() => now.shared);
      const first = shape.spawnAt < 0 ? 0 : 1;
      for (let i = first; i < shape.tasks.length; i++) stage.spawn(`task${i}`, bench.run(i));
      if (first === 1) stage.spawn('task0', bench.runAndSpawn(0, shape.spawnAt));
    },
    outcome: (execution) => bench.outcome(execution),
  };
}

class Bench {
  private readonly shape: Shape;
  private readonly cells = [new Cell('x', 0), new Cell('y', 0)];
  /** Touched under the mutex of the same number only. */
  private readonly guarded = [0, 0];
  private readonly mutexes = [new Mutex({ name: 'm0' }), new Mutex({ name: 'm1' })];
  private readonly rw = new RwSemaphore({ name: 'rw' });
  private readonly completion = new Completion('done');
  private readonly seen: string[] = [];

  constructor(shape: Shape) {
    this.shape = shape;
    for (const index of shape.tasks.keys()) this.seen[index] = '';
  }

  /** What tasks share beside cells and locks. */
  get shared(): unknown[] {
    return [this.guarded, this.seen];
  }

  outcome(execution: Execution): string {
    const stuck = execution.unfinished().map((task) => execution.handles[task].label);
    const finding = execution.finding?.message ?? '';
    return [...this.seen, this.cells[0].value, this.cells[1].value, stuck.sort().join('+'), finding].join('|');
  }

  *run(index: number): Task {
    for (const action of this.shape.tasks[index]) yield* this.act(index, action);
  }

  *runAndSpawn(index: number, at: number): Task {
    const extra = this.shape.tasks.length;
    this.seen[extra] = '';
    const actions = this.shape.tasks[index];
    for (const [i, action] of actions.entries()) {
      if (i === at) yield* this.spawnAndJoin(extra, action);
      else yield* this.act(index, action);
    }
  }

  private *spawnAndJoin(index: number, action: Action): Task {
    const child = yield* spawn('extra', this.act(index, action));
    if (action.value === 2) yield* child.join();
  }

  private *act(index: number, { kind, object, value }: Action): Task {
    const cell = this.cells[object];
    const mutex = this.mutexes[object];
    const note = (what: unknown): void => {
      this.seen[index] += `${what},`;
    };
    if (kind === 0) note(yield* cell.load());
    else if (kind === 1) yield* cell.store(value);
    else if (kind === 2) note(yield* cell.compareExchange(0, value));
    else if (kind === 3) yield* cell.waitUntil((v) => v === value);
    else if (kind === 4) yield* cell.update((v) => v + value);
    else if (kind <= 6) {
      yield* mutex.lock();
      note(this.guarded[object]);
      if (value === 2) yield* this.cells[1 - object].store(index + 3);
      this.guarded[object] += kind - 4;
      yield* mutex.unlock();
    } else if (kind === 7) {
      if (yield* mutex.tryLock()) {
        note(yield* this.cells[1 - object].load());
        yield* mutex.unlock();
      } else note('busy');
    } else if (kind === 8) {
      yield* this.rw.read();
      note(yield* cell.load());
      yield* this.rw.releaseRead();
    } else if (kind === 9) {
      yield* this.rw.write();
      if (value === 2) yield* this.nested(cell, mutex);
      else yield* cell.store(value);
      yield* this.rw.releaseWrite();
    } else if (kind === 10) {
      if (value === 2) yield* this.completion.wait();
      else yield* this.completion.complete();
    } else yield* this.tryBoth(cell, mutex, note);
  }

  private *nested(cell: Cell<number>, mutex: Mutex): Task {
    yield* mutex.lock();
    yield* cell.store(7);
    yield* mutex.unlock();
  }

  private *tryBoth(cell: Cell<number>, mutex: Mutex, note: (what: unknown) => void): Task {
    yield* mutex.lock();
    if (yield* this.rw.tryRead()) {
      note(yield* cell.load());
      yield* this.rw.releaseRead();
    } else if (yield* this.rw.tryWrite()) {
      yield* this.rw.releaseWrite();
    } else note('no');
    yield* mutex.unlock();
  }
}
