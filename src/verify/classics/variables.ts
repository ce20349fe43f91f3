/** The classic programs over plain variables, with the numbers of executions that an optimal reduction runs. */

import type { ProgramFamily, Stage } from '../../explore/world/program.ts';
import { InvariantError } from '../../task/lifetime.ts';
import type { Op, Task } from '../../task/op.ts';
import { spawn } from '../../task/runner.ts';
import { type Flat, Var } from './var.ts';

function classic(
  name: string,
  summary: string,
  sizes: { min: number; max: number; usual: number },
  build: (stage: Stage, size: number) => void,
): ProgramFamily {
  return {
    name,
    summary,
    sizes,
    isClassic: true,
    make: (size) => ({
      name: `${name}:${size}`,
      summary,
      build: (stage) => {
        stage.comparesBy(() => []);
        build(stage, size);
      },
    }),
  };
}

const vars = (label: string, count: number): Var[] =>
  Array.from({ length: count }, (_, i) => new Var(`${label}[${i}]`));

function* once(op: Op): Flat {
  yield op;
}

export const readers = classic(
  'readers',
  'one writer, N readers: 2^N',
  { min: 1, max: 20, usual: 8 },
  (stage, size) => {
    const x = new Var('x');
    stage.spawn('writer', once(x.set(42)));
    for (let i = 0; i < size; i++) stage.spawn(`reader${i}`, once(x.get));
  },
);

function* lastNonZero(a: readonly Var[]): Flat {
  let i = a.length - 1;
  while ((yield a[i].get) !== 0) i -= 1;
}

function* bump(a: readonly Var[], j: number): Generator<Op, void, number> {
  const value = yield a[j - 1].get;
  yield a[j].set(value + 1);
}

export const lastzero = classic(
  'lastzero',
  'N tasks bump cells from their neighbours, one looks for the last zero: (N+3)*2^(N-2)',
  { min: 1, max: 16, usual: 5 },
  (stage, size) => {
    const a = vars('a', size + 1);
    stage.spawn('scan', lastNonZero(a));
    for (let j = 1; j <= size; j++) stage.spawn(`bump${j}`, bump(a, j) as Task);
  },
);

export const nWritersAReader = classic(
  'n_writers_a_reader',
  'N writers and a reader of one variable: (N+1)!',
  { min: 1, max: 8, usual: 3 },
  (stage, size) => {
    const x = new Var('x');
    for (let i = 0; i < size; i++) stage.spawn(`writer${i}`, once(x.set(i + 1)));
    stage.spawn('reader', once(x.get));
  },
);

function* times(count: number, make: () => Op): Flat {
  for (let i = 0; i < count; i++) yield make();
}

export const redundantCo = classic(
  'redundant_co',
  'two tasks write N times each, a third reads twice: C(2N,N)*C(2N+2,2)',
  { min: 1, max: 6, usual: 3 },
  (stage, size) => {
    const x = new Var('x');
    stage.spawn(
      'ones',
      times(size, () => x.set(1)),
    );
    stage.spawn(
      'twos',
      times(size, () => x.set(2)),
    );
    stage.spawn(
      'reader',
      times(2, () => x.get),
    );
  },
);

export const lastwrite = classic(
  'lastwrite',
  'N writers, read after all ended: N!',
  { min: 1, max: 8, usual: 4 },
  (stage, size) => {
    const x = new Var('x');
    const writers = Array.from({ length: size }, (_, i) => stage.spawn(`writer${i}`, once(x.set(i))));
    stage.spawn(
      'main',
      (function* (): Generator<Op, void, unknown> {
        for (const writer of writers) yield* writer.join();
        yield x.get;
      })(),
    );
  },
);

export const sigma = classic(
  'sigma',
  'main counts up and starts a task that uses the count, N times: (2N-1)!!',
  { min: 1, max: 7, usual: 3 },
  (stage, size) => {
    const index = new Var('idx');
    const a = vars('a', size + 1);
    function* child(): Generator<Op, void, number> {
      yield a[yield index.get].set(1);
    }
    stage.spawn(
      'main',
      (function* (): Task {
        for (let i = 0; i < size; i++) {
          yield index.add(1);
          yield* spawn(`child${i}`, child() as Task);
        }
      })(),
    );
  },
);

export const casw = classic(
  'casw',
  'N tasks compare-and-swap a variable and then write it',
  { min: 1, max: 4, usual: 3 },
  (stage, size) => {
    const x = new Var('x');
    function* task(i: number): Flat {
      yield x.compareExchange(0, 1);
      yield x.set(i + 3);
    }
    for (let i = 0; i < size; i++) stage.spawn(`task${i}`, task(i));
  },
);

function* addTo(to: Var, from: Var, count: number): Generator<Op, void, number> {
  for (let k = 0; k < count; k++) {
    const other = yield from.get;
    const own = yield to.get;
    yield to.set(own + other);
  }
}

function fibonacci(index: number): number {
  let [a, b] = [0, 1];
  for (let i = 0; i < index; i++) [a, b] = [b, a + b];
  return a;
}

export const fib = classic(
  'fib',
  'two tasks add each the other variable to their own, N times; the largest sum is a Fibonacci number',
  { min: 1, max: 4, usual: 2 },
  (stage, size) => {
    const i = new Var('i', 1);
    const j = new Var('j', 1);
    const first = stage.spawn('first', addTo(i, j, size) as Task);
    const second = stage.spawn('second', addTo(j, i, size) as Task);
    stage.spawn(
      'main',
      (function* (): Task {
        yield i.get;
        yield j.get;
        yield* first.join();
        yield* second.join();
      })(),
    );
    stage.atEnd(() => {
      const largest = fibonacci(2 * size + 2);
      if (i.value > largest || j.value > largest) throw new InvariantError('I9', `a sum is larger than ${largest}`);
    });
  },
);
