/**
 * A search as a queue runs it: tasks give away parts of their parts, tasks die at any time and begin again from what
 * they left last or from their start. The result is that of one thread.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Checkpoint, type PartResult, PartTask, partKey } from '../../src/explore/queue/part-task.ts';
import { Random } from '../../src/explore/search/random.ts';
import type { Search } from '../../src/explore/search/search.ts';
import { ALGORITHMS, makeSearch, type SearchSpec } from '../../src/explore/spec.ts';
import type { Program } from '../../src/explore/world/program.ts';
import { findProgram } from '../../src/verify/catalogue.ts';
import { applyMutant, findMutant } from '../../src/verify/mutants/index.ts';
import { asSent } from './by-parts.ts';
import { randomProgram } from './random-program.ts';

const SPEC: SearchSpec = { scenario: '', algorithm: 'optimal', mutant: null, bound: null, seed: 7, samples: 300 };
const SPLITTING = ALGORITHMS.filter((algorithm) => algorithm !== 'stateful');
const MOST = 600;
/** Short enough for one execution. */
const ONE_RUN = 0;

interface Job {
  key: string;
  state: object;
  left: Checkpoint | null;
}

class PlayedQueue {
  /** How many parts were given away, and how many tasks died. */
  given = 0;
  deaths = 0;
  private readonly make: () => Search;
  private readonly random: Random;
  private readonly jobs: Job[] = [];
  private readonly running = new Map<PartTask, Job>();
  private readonly results = new Map<string, PartResult>();

  constructor(make: () => Search, seed: number) {
    this.make = make;
    this.random = new Random(seed);
  }

  run(): PartResult {
    const state = asSent(this.make().state());
    this.jobs.push({ key: partKey(state), state, left: null });
    const [{ key: root }] = this.jobs;
    while (!this.results.has(root)) {
      if (this.running.size === 0 || (this.jobs.length > 0 && this.random.below(3) === 0)) this.start();
      this.go([...this.running.keys()][this.random.below(this.running.size)]);
    }
    return this.results.get(root)!;
  }

  private start(): void {
    const [job] = this.jobs.splice(this.random.below(this.jobs.length), 1);
    if (this.results.has(job.key)) return;
    this.running.set(new PartTask(this.make(), job.key, asSent(job.state), job.left), job);
  }

  private go(task: PartTask | undefined): void {
    if (task === undefined) return;
    const { random } = this;
    if (random.below(3) === 0) this.add(task.split());
    const progress = task.advance(ONE_RUN);
    if (progress === 'done') this.end(task);
    else if (random.below(40) === 0) this.die(task);
    else this.goOn(task, progress);
  }

  private goOn(task: PartTask, progress: 'more' | 'waits'): void {
    const { random } = this;
    if (progress === 'more' && random.below(4) === 0) {
      this.running.get(task)!.left = asSent(task.checkpoint());
    }
    if (progress !== 'waits') return;
    const result = this.results.get(task.awaited);
    const at = this.jobs.findIndex(({ key }) => key === task.awaited);
    if (result !== undefined) task.join(asSent(result));
    else if (at >= 0 || !this.isRunning(task.awaited)) {
      if (at >= 0) this.jobs.splice(at, 1);
      task.reclaim();
    }
  }

  private isRunning(key: string): boolean {
    return [...this.running.keys()].some((task) => task.key === key);
  }

  private add(part: { key: string; state: object } | null): void {
    if (part === null) return;
    this.given += 1;
    const { key, state } = asSent(part);
    const isKnown = this.results.has(key) || this.isRunning(key) || this.jobs.some((job) => job.key === key);
    if (!isKnown) this.jobs.push({ key, state, left: null });
  }

  private die(task: PartTask): void {
    this.deaths += 1;
    this.jobs.push(this.running.get(task)!);
    this.running.delete(task);
  }

  private end(task: PartTask): void {
    this.results.set(task.key, asSent(task.result()));
    this.running.delete(task);
  }
}

function alone(program: Program, spec: SearchSpec): Search | null {
  const search = makeSearch(program, spec);
  for (let n = 0; n < MOST; n++) if (search.advance(1) !== 'more') return search;
  return null;
}

const played = { given: 0, deaths: 0 };

function assertSame(program: Program, spec: SearchSpec, seed: number): void {
  const wanted = alone(program, spec);
  if (wanted === null) return;
  const what = `${program.name}, ${spec.algorithm}, bound ${spec.bound}, seed ${seed}`;
  const queue = new PlayedQueue(() => makeSearch(program, spec), seed);
  const { outcome, complete } = queue.run();
  const edges = makeSearch(program, spec).lockOrder;
  edges.merge(outcome.lockEdges);
  const { totals, bug } = wanted;
  const found = { totals: outcome.totals, bug: outcome.bug, complete, cycle: edges.cycle() };
  const expected = { totals, bug: bug && asSent({ ...bug, subjects: undefined }), complete: wanted.complete };
  assert.deepEqual(found, { ...expected, cycle: wanted.lockOrder.cycle() }, what);
  played.given += queue.given;
  played.deaths += queue.deaths;
}

test('random programs', () => {
  for (let seed = 1; seed <= 25; seed++) {
    for (const algorithm of SPLITTING) assertSame(randomProgram(seed), { ...SPEC, algorithm }, seed);
    assertSame(randomProgram(seed), { ...SPEC, bound: 1 }, seed);
  }
  assert.ok(played.given > 500 && played.deaths > 50, `${played.given} parts, ${played.deaths} deaths`);
});

test('the classics, a scenario whose invariants look at several objects, and a bug', () => {
  for (const name of ['lastzero:6', 'sigma:3', 'fib:2', 'revoke:3', 'revoke-vs-release', 'revoke-vs-map:2']) {
    for (const seed of [1, 2, 3]) assertSame(findProgram(name), SPEC, seed);
  }
  const undo = applyMutant(findMutant('classic-no-drain'));
  try {
    for (const algorithm of SPLITTING) {
      for (let seed = 1; seed <= 4; seed++) assertSame(findProgram('revoke:3'), { ...SPEC, algorithm }, seed);
    }
  } finally {
    undo();
  }
});

test('equal parts have one name, whenever they were split off', () => {
  const names = (before: number): Set<string> => {
    const search = makeSearch(findProgram('revoke:3'), SPEC);
    const task = new PartTask(search, '', search.state());
    for (let n = 0; n < before; n++) task.advance(ONE_RUN);
    const keys = new Set<string>();
    for (let part = task.split(); part !== null; part = task.split()) keys.add(part.key);
    return keys;
  };
  const early = names(3);
  const late = names(4);
  assert.ok([...early].filter((key) => late.has(key)).length > 0, `${[...early]} and ${[...late]}`);
});
