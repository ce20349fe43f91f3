/**
 * Estimates how many orders a search of source sets or wakeup trees has to take (Knuth, Estimating the efficiency of
 * backtrack programs, 1975). Each probe draws one order. The inverse of its probability estimates the number of all
 * orders without any bias. Orders that differ only in commuting steps count as one: the probe divides by their number,
 * which is the number of linear extensions of the steps' partial order.
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

/** The tasks that touched an object, and whether the touches conflict. */
interface TouchedObject {
  tasks: Set<number>;
  isChanged: boolean;
}

export class Estimator {
  /** How many probes count. */
  probes = 0;
  private sum = 0;
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

  /** The number of orders; 0 before the first probe. */
  get orders(): number {
    return this.probes === 0 ? 0 : this.sum / this.probes;
  }

  /** Draws orders for about `ms`, at most `most` of them. */
  probeFor(ms: number, most = Number.POSITIVE_INFINITY): void {
    const end = performance.now() + ms;
    for (let n = 0; n < most && performance.now() < end; n++) this.probe();
  }

  probe(): void {
    const { log, scopes, oneOfAlike } = this;
    log.truncate(0);
    const execution = new Execution(this.program, this.ids, { scopes, kept: this.kept, oneOfAlike });
    for (const task of execution.order) if (task >= log.width) log.width = task + 1;
    /** The steps that count, by their index in the log. */
    const counted: number[] = [];
    const taken: number[] = [];
    /** For each way to draw: the logarithm of the probability of this order. */
    const logs = WAYS.map(() => 0);
    const way = this.random.below(WAYS.length);
    while (execution.finding === null && log.length < MAX_STEPS) {
      const ready = execution.order.filter((task) => execution.isReady(task));
      if (ready.length === 0) break;
      let task = ready.find((one) => this.isPrivate(execution, one)) ?? -1;
      if (task < 0) {
        const left = ready.map((one) => Math.max(1, (this.lengths[one] ?? 1) - (taken[one] ?? 0)));
        const chosen = this.draw(left.map((steps) => steps ** WAYS[way]));
        for (const [i, power] of WAYS.entries()) logs[i] += Math.log(shareOf(left, chosen, power));
        task = ready[chosen];
        taken[task] = (taken[task] ?? 0) + 1;
        counted.push(log.length);
      }
      log.take(execution, task);
    }
    this.learn(taken);
    if (this.sawMore()) {
      this.sum = 0;
      this.probes = 0;
    } else if (log.length < MAX_STEPS) {
      this.sum += Math.exp(-logMean(logs) - logExtensions(log, counted));
      this.probes += 1;
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
