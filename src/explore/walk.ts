/** Searches that choose at each state among all tasks that are ready, without looking at which steps commute. */
import { HeldLocks } from './lock-order.ts';
import type { Program } from './program.ts';
import { MAX_STEPS, Search } from './search.ts';
import type { World } from './world.ts';

/** Runs one world to its end; `choose` picks among the ready tasks. Returns the schedule. */
abstract class WalkSearch extends Search {
  protected readonly schedule: number[] = [];

  protected walk(world: World, choose: (ready: readonly number[], depth: number, world: World) => number): void {
    const held = new HeldLocks();
    this.schedule.length = 0;
    for (;;) {
      if (world.finding !== null) return;
      const ready = world.order.filter((task) => world.isReady(task));
      if (ready.length === 0) return;
      const task = choose(ready, this.schedule.length, world);
      if (task < 0) return;
      const op = world.pending[task]!;
      this.lockOrder.before(held, task, world.handles[task].label, op);
      world.step(task);
      this.lockOrder.after(held, task, op);
      this.schedule.push(task);
      this.totals.steps += 1;
      if (this.schedule.length > MAX_STEPS) {
        world.finding = { invariant: 'I7', message: `a run of more than ${MAX_STEPS} steps: somebody waits for ever` };
      }
    }
  }
}

/** Depth first through every order, or every order with at most `bound` preemptions. */
export class DfsSearch extends WalkSearch {
  private readonly bound: number;
  private readonly limitSteps: number;
  private readonly choices: number[][] = [];
  private readonly at: number[] = [];

  /** Runs are given up after `limitSteps` steps. */
  constructor(program: Program, bound = Number.POSITIVE_INFINITY, limitSteps = Number.POSITIVE_INFINITY) {
    super(program);
    this.bound = bound;
    this.limitSteps = limitSteps;
  }

  advance(executions: number): boolean {
    for (let n = 0; n < executions; n++) {
      const world = this.newWorld();
      let preemptions = 0;
      let last = -1;
      let cut = false;
      this.walk(world, (ready, depth) => {
        if (depth >= this.limitSteps) {
          cut = true;
          return -1;
        }
        if (depth === this.at.length) {
          this.choices.push(this.options(ready, last, preemptions));
          this.at.push(0);
        }
        const task = this.choices[depth][this.at[depth]];
        if (task !== last && ready.includes(last)) preemptions += 1;
        last = task;
        return task;
      });
      if (cut) this.totals.blocked += 1;
      else if (this.ended(world, this.schedule, this.schedule.length)) return false;
      if (!this.next()) {
        this.complete = true;
        return false;
      }
    }
    return true;
  }

  override estimate(): number {
    if (this.complete) return 1;
    let share = 1;
    let done = 0;
    for (let depth = 0; depth < this.at.length && share > 1e-12; depth++) {
      share /= this.choices[depth].length;
      done += share * this.at[depth];
    }
    return done;
  }

  /** The task that ran last comes first: fewest preemptions are tried first. */
  private options(ready: readonly number[], last: number, preemptions: number): number[] {
    if (!ready.includes(last)) return [...ready];
    if (preemptions >= this.bound) return [last];
    return [last, ...ready.filter((task) => task !== last)];
  }

  private next(): boolean {
    while (this.at.length > 0) {
      const depth = this.at.length - 1;
      this.at[depth] += 1;
      if (this.at[depth] < this.choices[depth].length) return true;
      this.at.pop();
      this.choices.pop();
    }
    return false;
  }
}

/** A small generator of random numbers with a seed (Marsaglia's xorshift32): the same runs on every machine. */
export class Random {
  private state: number;

  constructor(seed: number) {
    this.state = (seed ^ 0x9e3779b9) | 0 || 1;
  }

  /** An integer from 0 to `end` - 1. */
  below(end: number): number {
    let x = this.state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.state = x | 0;
    return (x >>> 0) % end;
  }
}

export type SamplingName = 'random' | 'pct' | 'pos';

/**
 * Runs drawn at random. `random`: any ready task at each step. `pct`: tasks have priorities, and at `depth` - 1 steps
 * chosen before the run the running task falls to the bottom (Burckhardt et al., ASPLOS 2010). `pos`: each step has a
 * priority, drawn anew for those that a taken step races with (Yuan, Yang, Gu, CAV 2018).
 */
export class SamplingSearch extends WalkSearch {
  private readonly how: SamplingName;
  private readonly random: Random;
  private readonly depth: number;
  private length = 50;

  constructor(program: Program, how: SamplingName, seed: number, depth = 3) {
    super(program);
    this.how = how;
    this.random = new Random(seed);
    this.depth = depth;
  }

  advance(executions: number): boolean {
    for (let n = 0; n < executions; n++) {
      const world = this.newWorld();
      this.walk(world, this.how === 'random' ? this.anyone() : this.how === 'pct' ? this.pct() : this.pos());
      this.length = Math.max(this.length, this.schedule.length);
      if (this.ended(world, this.schedule, this.schedule.length)) return false;
    }
    return true;
  }

  private anyone(): (ready: readonly number[]) => number {
    return (ready) => ready[this.random.below(ready.length)];
  }

  private pct(): (ready: readonly number[], depth: number) => number {
    const priority: number[] = [];
    const changes = Array.from({ length: this.depth - 1 }, () => this.random.below(this.length));
    return (ready, depth) => {
      for (const task of ready) priority[task] ??= this.depth + this.random.below(1 << 30);
      let best = highest(ready, priority);
      const change = changes.indexOf(depth);
      if (change >= 0) {
        priority[best] = change;
        best = highest(ready, priority);
      }
      return best;
    };
  }

  private pos(): (ready: readonly number[], depth: number, world: World) => number {
    const priority: (number | undefined)[] = [];
    return (ready, _depth, world) => {
      for (const task of ready) priority[task] ??= this.random.below(1 << 30);
      const best = highest(ready, priority as number[]);
      const object = world.pending[best]!.object;
      for (const task of ready) if (world.pending[task]!.object === object) priority[task] = undefined;
      return best;
    };
  }
}

function highest(ready: readonly number[], priority: readonly number[]): number {
  let best = ready[0];
  for (const task of ready) if (priority[task] > priority[best]) best = task;
  return best;
}
