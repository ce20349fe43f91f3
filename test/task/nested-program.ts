/** Random programs over every primitive of task/, in which tasks also wait while they hold locks. Many of them hang. */
import { Random } from '../../src/explore/search/random.ts';
import type { Program, Stage } from '../../src/explore/world/program.ts';
import { Cell } from '../../src/task/cell.ts';
import { Completion } from '../../src/task/completion.ts';
import { Mutex, RwSemaphore } from '../../src/task/lock.ts';
import type { Task } from '../../src/task/op.ts';
import { Refcount } from '../../src/task/refcount.ts';
import { condResched, spawn } from '../../src/task/runner.ts';
import { WaitQueue } from '../../src/task/wait-queue.ts';

interface Statement {
  name: string;
  /** The index of one of two objects of a kind. */
  object: 0 | 1;
  value: 1 | 2;
  body: Statement[];
}

/** The objects of one run. */
class Objects {
  readonly cells = [new Cell('x', 0), new Cell('y', 0)];
  readonly box = new Cell('box', { value: 0 });
  readonly mutexes = [new Mutex({ name: 'm0' }), new Mutex({ name: 'm1' })];
  readonly sems = [new RwSemaphore({ name: 's0' }), new RwSemaphore({ name: 's1' })];
  readonly completion = new Completion('done');
  readonly count = new Refcount('count', 1);
  readonly queue = new WaitQueue('queue');
  readonly guard = new Mutex({ name: 'guard' });
  /** Changed under `guard`. */
  flag = 0;

  *setFlag(value: number): Task {
    yield* this.guard.lock();
    this.flag = value;
    yield* this.guard.unlock();
  }
}

type Act = (objects: Objects, statement: Statement) => Task<unknown>;

const LEAVES: Record<string, Act> = {
  load: ({ cells }, { object }) => cells[object].load(),
  store: ({ cells }, { object, value }) => cells[object].store(value),
  clear: ({ cells }, { object }) => cells[object].store(0),
  update: ({ cells }, { object, value }) => cells[object].update((now) => Math.max(now, value)),
  compareExchange: ({ cells }, { object, value }) => cells[object].compareExchange(value - 1, value),
  waitUntil: ({ cells }, { object, value }) => cells[object].waitUntil((now) => now === value),
  lookInside: ({ box }) => box.loadFor(({ value }) => value),
  changeInside: ({ box }, { value }) => box.changeFor((inside) => (inside.value += value)),
  replaceInside: ({ box }, { value }) => box.store({ value }),
  waitInside: ({ box }, { value }) => box.waitUntil((inside) => inside.value >= value),
  complete: ({ completion }) => completion.complete(),
  reinit: ({ completion }) => completion.reinit(),
  test: ({ completion }) => completion.test(),
  wait: ({ completion }) => completion.wait(),
  tryGet: ({ count }) => count.tryGet(),
  put: ({ count }) => count.put(),
  setCount: ({ count }, { value }) => count.set(value - 1),
  waitForZero: ({ count }) => count.waitForZero(),
  raise: function* (objects, { value }) {
    yield* objects.setFlag(value);
    yield* objects.queue.wake();
  },
  raiseInSilence: (objects, { value }) => objects.setFlag(value),
  lower: (objects) => objects.setFlag(0),
  wake: ({ queue }) => queue.wake(),
  sleep: (objects, { value }) => objects.queue.waitUntil(() => objects.flag >= value),
  giveWay: () => condResched(),
};

/** Sections whose body may wait. */
const SECTIONS: Record<string, Act> = {
  lock: function* (objects, { object, body }) {
    yield* objects.mutexes[object].lock();
    yield* run(objects, body);
    yield* objects.mutexes[object].unlock();
  },
  tryLock: function* (objects, { object, body }) {
    if (!(yield* objects.mutexes[object].tryLock())) return;
    yield* run(objects, body);
    yield* objects.mutexes[object].unlock();
  },
  read: function* (objects, { object, body }) {
    yield* objects.sems[object].read();
    yield* run(objects, body);
    yield* objects.sems[object].releaseRead();
  },
  tryRead: function* (objects, { object, body }) {
    if (!(yield* objects.sems[object].tryRead())) return;
    yield* run(objects, body);
    yield* objects.sems[object].releaseRead();
  },
  write: function* (objects, { object, body }) {
    yield* objects.sems[object].write();
    yield* run(objects, body);
    yield* objects.sems[object].releaseWrite();
  },
  tryWrite: function* (objects, { object, body }) {
    if (!(yield* objects.sems[object].tryWrite())) return;
    yield* run(objects, body);
    yield* objects.sems[object].releaseWrite();
  },
  child: function* (objects, { value, body }) {
    const child = yield* spawn('child', run(objects, body));
    if (value === 2) yield* child.join();
  },
};

function* run(objects: Objects, statements: readonly Statement[]): Task {
  for (const statement of statements) yield* (LEAVES[statement.name] ?? SECTIONS[statement.name])(objects, statement);
}

/** Groups of statements that interact in more than one way. */
const THEMES = [
  { leaves: ['complete', 'wait', 'test'], sections: ['read', 'read', 'write'] },
  { leaves: ['load', 'complete'], sections: ['read', 'read', 'write'] },
  { leaves: ['setCount', 'waitForZero', 'tryGet'], sections: ['lock', 'child'] },
  { leaves: ['changeInside', 'replaceInside', 'waitInside'], sections: ['lock', 'tryLock'] },
  { leaves: ['raise', 'sleep', 'lower', 'raiseInSilence'], sections: ['read', 'child'] },
];

/** The program of a seed, the same every time. */
export function nestedProgram(seed: number): Program {
  const random = new Random(seed * 7919);
  for (let i = 0; i < 5; i++) random.below(2);
  const pick = <T>(list: readonly T[]): T => list[random.below(list.length)];
  const leaves = Object.keys(LEAVES);
  const sections = Object.keys(SECTIONS);
  // Few kinds of statements in one program, so that they interact. Readers that wait for each other are frequent.
  const theme = THEMES[random.below(THEMES.length * 2)];
  const some = theme?.leaves ?? Array.from({ length: 2 + random.below(3) }, () => pick(leaves));
  const around = theme?.sections ?? [pick(sections), pick(sections)];
  const statement = (depth: number): Statement => {
    const isSection = depth < 2 && random.below(2) === 0;
    const name = isSection ? pick(around) : pick(some);
    const length = isSection ? random.below(3) : 0;
    const body = Array.from({ length }, () => statement(depth + 1));
    return { name, object: pick([0, 0, 0, 1] as const), value: pick([1, 2] as const), body };
  };
  const tasks = Array.from({ length: 2 + random.below(2) }, () =>
    Array.from({ length: 1 + random.below(2) }, () => statement(0)),
  );
  return {
    name: `nested:${seed}`,
    summary: 'a small random program whose tasks may wait for ever',
    build(stage: Stage): void {
      const objects = new Objects();
      for (const [index, statements] of tasks.entries()) stage.spawn(`task${index}`, run(objects, statements));
    },
  };
}
