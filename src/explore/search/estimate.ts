/**
 * Estimates how many orders a search of source sets or wakeup trees has to take (Knuth, Estimating the efficiency of
 * backtrack programs, 1975). Each probe draws one order. The inverse of its probability estimates the number of all
 * orders without any bias. Orders that differ only in commuting steps count as one: the probe divides by their number,
 * which is the number of linear extensions of the steps' partial order.
 *
 * A second estimate comes from walks with sleep sets (canonical-walk.ts). It finds classes that the first one misses,
 * and the other way round.
 *
 * Two things keep the probes close together. Tasks go on with a probability in proportion to the steps that they have
 * left, as earlier probes tell. Steps on objects that no other task touches come at once, so they multiply nothing.
 */
import { Access } from '../world/access.ts';
import { Execution } from '../world/execution.ts';
import { InvariantScopes } from '../world/invariant-scopes.ts';
import { KeptWorld } from '../world/kept-world.ts';
import type { Program } from '../world/program.ts';
import { StepLog } from '../world/step-log.ts';
import { TaskIds } from '../world/task-ids.ts';
import { CanonicalWalk } from './canonical-walk.ts';
import { logExtensions } from './linear-extensions.ts';
import { Random } from './random.ts';

/** A longer order is not counted. */
const MAX_STEPS = 5_000;

/**
 * The ways to draw the next task: with a chance in proportion to this power of the steps that it has left. Where tasks
 * do not meet, power 1 gives every order the same chance; where they meet often, power 0 does better. A probe draws in
 * one way, and takes the average probability of its order over all ways.
 */
const WAYS = [0, 0.5, 1];

function shareOf(left: readonly number[], chosen: number, power: number): number {
  return left[chosen] ** power / left.reduce((sum, steps) => sum + steps ** power, 0);
}

/** The logarithm of the mean of numbers, by their logarithms. */
function logMean(logs: readonly number[]): number {
  const most = Math.max(...logs);
  return most + Math.log(logs.reduce((sum, one) => sum + Math.exp(one - most), 0) / logs.length);
}

/** The mean, without the part of rare numbers that is far beyond it (Ionides, Truncated importance sampling, 2008). */
function truncatedMean(numbers: readonly number[]): number {
  const count = numbers.length;
  if (count === 0) return 0;
  const most = (numbers.reduce((sum, one) => sum + one, 0) / count) * 3 * Math.sqrt(count);
  return numbers.reduce((sum, one) => sum + Math.min(one, most), 0) / count;
}

/** The tasks that touched an object, and whether the touches conflict. */
interface TouchedObject {
  tasks: Set<number>;
  isChanged: boolean;
}

export class Estimator {
  private weights: number[] = [];
  private walked: number[] = [];
  private readonly seen = new Map<number, number>();
  private readonly program: Program;
  private readonly oneOfAlike: boolean;
  private readonly ids = new TaskIds();
  private readonly kept = new KeptWorld();
  private readonly scopes = new InvariantScopes();
  private readonly log = new StepLog();
  private readonly random = new Random(19);
  private readonly touched = new Map<number, TouchedObject>();
  /** The objects whose steps may conflict. Null if every step may. */
  private shared: Set<number> | null = new Set();
  /** The average number of counted steps of each task, and how many orders they are from. */
  private readonly lengths: number[] = [];
  private drawn = 0;

  constructor(program: Program, oneOfAlike: boolean) {
    this.program = program;
    this.oneOfAlike = oneOfAlike;
  }

  /** How many probes count. */
  get probes(): number {
    return this.weights.length;
  }

  /** The number of orders; 0 before the first probe. */
  get orders(): number {
    if (this.probes === 0) return 0;
    // Both are too low while they miss classes that they rarely draw.
    return Math.max(truncatedMean(this.weights), truncatedMean(this.walked));
  }

  /** Draws orders for about `ms`, at most `most` of them. */
  probeFor(ms: number, most = Number.POSITIVE_INFINITY): void {
    const end = performance.now() + ms;
    for (let n = 0; n < most && performance.now() < end; n++) this.probe();
  }

  /** Draws two orders, one in each way. */
  probe(): void {
    this.walk();
    this.probeByExtensions();
  }

  /** One step after the other, until every task ended or waits, or `choose` returns -1. Returns whether it did not. */
  private run(choose: (execution: Execution, ready: readonly number[]) => number, took: () => void): boolean {
    const { log, scopes, oneOfAlike } = this;
    log.truncate(0);
    const execution = new Execution(this.program, this.ids, { scopes, kept: this.kept, oneOfAlike });
    for (const task of execution.order) if (task >= log.width) log.width = task + 1;
    while (execution.finding === null && log.length < MAX_STEPS) {
      const ready = execution.order.filter((task) => execution.isReady(task));
      if (ready.length === 0) break;
      const task = ready.find((one) => this.isPrivate(execution, one)) ?? choose(execution, ready);
      if (task < 0) return false;
      log.take(execution, task);
      took();
    }
    return log.length < MAX_STEPS;
  }

  private walk(): void {
    const total = this.lengths.reduce((sum, length) => sum + length, 0);
    const walk = new CanonicalWalk(this.log, this.random, Math.min(0.5, 2 / Math.max(1, total)), this.seen);
    const isWhole = this.run(
      (execution, ready) => walk.choose(execution, ready),
      () => walk.took(this.log.length - 1),
    );
    if (this.sawMore()) this.forget();
    else this.walked.push(isWhole ? Math.exp(walk.logWeight) : 0);
  }

  private forget(): void {
    this.weights = [];
    this.walked = [];
  }

  private probeByExtensions(): void {
    const { log } = this;
    /** The steps that count, by their index in the log. */
    const counted: number[] = [];
    const taken: number[] = [];
    /** For each way to draw: the logarithm of the probability of this order. */
    const logs = WAYS.map(() => 0);
    const way = this.random.below(WAYS.length);
    const choose = (_: Execution, ready: readonly number[]): number => {
      const left = ready.map((one) => Math.max(1, (this.lengths[one] ?? 1) - (taken[one] ?? 0)));
      const chosen = this.draw(left.map((steps) => steps ** WAYS[way]));
      for (const [i, power] of WAYS.entries()) logs[i] += Math.log(shareOf(left, chosen, power));
      const task = ready[chosen];
      taken[task] = (taken[task] ?? 0) + 1;
      counted.push(log.length);
      return task;
    };
    const isWhole = this.run(choose, () => {});
    this.learn(taken);
    if (this.sawMore()) this.forget();
    else if (isWhole) {
      this.weights.push(Math.exp(-logMean(logs) - logExtensions(log, counted)));
    }
  }

  private draw(chances: readonly number[]): number {
    let left = this.random.fraction() * chances.reduce((sum, chance) => sum + chance, 0);
    for (let i = 0; i < chances.length - 1; i++) {
      left -= chances[i];
      if (left < 0) return i;
    }
    return chances.length - 1;
  }

  private isPrivate(execution: Execution, task: number): boolean {
    return this.shared !== null && !this.shared.has(this.log.slotOf(execution.pending[task]!.object.serial));
  }

  private learn(taken: readonly number[]): void {
    this.drawn += 1;
    // Early orders are as good as any: the average need not forget them.
    for (let task = 0; task < taken.length; task++) {
      this.lengths[task] = (this.lengths[task] ?? 0) + ((taken[task] ?? 0) - (this.lengths[task] ?? 0)) / this.drawn;
    }
  }

  /** Whether the last order showed conflicts, or looks of invariants, that were not known. */
  private sawMore(): boolean {
    const { log, scopes } = this;
    let more = scopes.grown.length > 0;
    scopes.settle();
    if (this.shared === null) return more;
    for (let i = 0; i < log.length; i++) {
      if (log.access[i] === Access.ALL) {
        this.shared = null;
        return true;
      }
      const object = log.object[i];
      if (this.shared.has(object)) continue;
      let touched = this.touched.get(object);
      if (touched === undefined) {
        touched = { tasks: new Set(), isChanged: false };
        this.touched.set(object, touched);
      }
      touched.tasks.add(log.task[i]);
      if (log.access[i] !== Access.READ) touched.isChanged = true;
      if (log.seenBy[i] === 0 && (touched.tasks.size < 2 || !touched.isChanged)) continue;
      this.shared.add(object);
      more = true;
    }
    return more;
  }
}
