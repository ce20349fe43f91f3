/** Searches that choose among all ready tasks at each state, without regard to commuting steps. */
import { areAllQueued } from '../checks/fair-queues.ts';
import { HeldLocks } from '../checks/lock-order.ts';
import type { Execution } from '../world/execution.ts';
import type { Program } from '../world/program.ts';
import { type Part, type PartOutcome, Search, type SearchProgress, StaleStateError } from './search.ts';

/** Runs executions one after the other, each to its end. A subclass chooses the next task. */
export abstract class WalkSearch extends Search {
  protected readonly schedule: number[] = [];

  protected walk(
    execution: Execution,
    choose: (ready: readonly number[], depth: number, execution: Execution) => number,
  ): void {
    const held = new HeldLocks();
    this.schedule.length = 0;
    for (;;) {
      if (execution.finding !== null) return;
      const ready = execution.order.filter((task) => execution.isReady(task));
      if (ready.length === 0 || areAllQueued(execution, ready)) return;
      const task = choose(ready, this.schedule.length, execution);
      if (task < 0) return;
      const op = execution.pending[task]!;
      this.lockOrder.before(held, task, execution.handles[task].label, op);
      execution.step(task);
      this.lockOrder.after(held, task, op);
      this.schedule.push(task);
      this.totals.steps += 1;
      this.checkLength(execution, this.schedule.length);
    }
  }
}

/** A task that can take the next step from a state. */
interface Choice {
  task: number;
  /** The part that was given away, or 0. */
  part: number;
}

/** What is left of each state on the path, beginning with the choice that is run first. Tasks are given by name. */
interface ChoiceState {
  choices: string[][];
  base: number;
}

/** Depth first through every order, or every order with at most `bound` preemptions. */
export class DfsSearch extends WalkSearch {
  private readonly bound: number;
  /** Gives up a run after this many steps. */
  protected limitSteps: number;
  /** The choices left at each depth, beginning with the one that runs. */
  private path: Choice[][] = [];
  /** How many choices each depth had before. */
  private explored: number[] = [];
  private base = 0;

  constructor(program: Program, bound = Number.POSITIVE_INFINITY, limitSteps = Number.POSITIVE_INFINITY) {
    super(program);
    this.bound = bound;
    this.limitSteps = limitSteps;
  }

  advance(executions: number): SearchProgress {
    for (let n = 0; n < executions; n++) {
      if (this.awaited > 0) return 'waits';
      const execution = this.newExecution();
      let preemptions = 0;
      let last = -1;
      let cut = false;
      this.walk(execution, (ready, depth) => {
        if (depth >= this.limitSteps) {
          cut = true;
          return -1;
        }
        if (depth === this.path.length) {
          this.path.push(this.options(ready, last, preemptions).map((task) => ({ task, part: 0 })));
          this.explored.push(0);
        }
        const { task } = this.path[depth][0];
        if (!ready.includes(task)) throw new StaleStateError(`${this.program.name}: a planned step cannot be taken`);
        if (task !== last && ready.includes(last)) preemptions += 1;
        last = task;
        return task;
      });
      if (cut) this.totals.blocked += 1;
      else if (this.ended(execution, this.schedule, this.schedule.length)) return 'done';
      if (this.path.length > this.limitSteps) this.truncate(this.limitSteps);
      if (!this.next()) return 'done';
    }
    return 'more';
  }

  override get currentDepth(): number {
    return this.path.length;
  }

  override estimate(): number {
    if (this.complete) return 1;
    let share = 1;
    let done = 0;
    for (let depth = 0; depth < this.path.length && share > 1e-12; depth++) {
      share /= this.path[depth].length + this.explored[depth];
      done += share * this.explored[depth];
    }
    return done;
  }

  state(): ChoiceState {
    return { choices: this.path.map((choices) => this.namesOf(choices)), base: this.base };
  }

  load(state: object): void {
    this.reset();
    const { choices, base } = state as ChoiceState;
    this.path = choices.map((names) => names.map((name) => ({ task: this.ids.idOf(name), part: 0 })));
    this.explored = choices.map(() => 0);
    this.base = base;
  }

  /** Gives away the first unexplored choice of the shallowest state that has one. */
  splitPart(): Part | null {
    for (let depth = this.base; depth < this.path.length - 1; depth++) {
      const choice = this.path[depth].find(({ part }, i) => i > 0 && part === 0);
      if (choice === undefined) continue;
      choice.part = this.newPart();
      const before = this.path.slice(0, depth).map((choices) => this.namesOf([choices[0]]));
      return { id: choice.part, state: { choices: [...before, this.namesOf([choice])], base: depth + 1 } };
    }
    return null;
  }

  get awaited(): number {
    return this.path.at(-1)?.[0].part ?? 0;
  }

  reclaimPart(): void {
    this.path.at(-1)![0].part = 0;
  }

  override join(outcome: PartOutcome): void {
    super.join(outcome);
    if (this.bug !== null) return;
    if (outcome.rest === null) {
      this.next();
      return;
    }
    const { choices, base } = outcome.rest as ChoiceState;
    this.reclaimPart();
    for (const names of choices.slice(base)) {
      this.path.push(names.map((name) => ({ task: this.ids.idOf(name), part: 0 })));
      this.explored.push(0);
    }
  }

  private namesOf(choices: readonly Choice[]): string[] {
    return choices.map(({ task }) => this.ids.nameOf(task));
  }

  /** Puts the task that ran last first, so that orders with few preemptions come first. */
  private options(ready: readonly number[], last: number, preemptions: number): number[] {
    if (!ready.includes(last)) return [...ready];
    if (preemptions >= this.bound) return [last];
    return [last, ...ready.filter((task) => task !== last)];
  }

  /** Drops everything below this depth. */
  private truncate(depth: number): void {
    this.path.length = Math.max(depth, this.base);
    this.explored.length = this.path.length;
  }

  private next(): boolean {
    while (this.path.length > this.base) {
      const depth = this.path.length - 1;
      this.path[depth].shift();
      this.explored[depth] += 1;
      if (this.path[depth].length > 0) return true;
      this.path.pop();
      this.explored.pop();
    }
    this.complete = true;
    return false;
  }
}
