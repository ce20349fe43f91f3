/** What every way of searching has in common: runs one execution after the other and looks at how each ends. */
import { LockOrder } from './lock-order.ts';
import { checkEnd } from './oracles.ts';
import type { Program } from './program.ts';
import { type Finding, TaskIds, World } from './world.ts';

export interface Bug extends Finding {
  /** Task numbers in the order of their steps. */
  schedule: number[];
}

export interface Totals {
  executions: number;
  /** Runs given up because all that they could still do had been seen: wasted work. */
  blocked: number;
  steps: number;
}

/** Runs that take more steps than this wait without bound (I7). */
export const MAX_STEPS = 20_000;

export abstract class Search {
  readonly totals: Totals = { executions: 0, blocked: 0, steps: 0 };
  readonly program: Program;
  readonly lockOrder = new LockOrder();
  bug: Bug | null = null;
  /** Everything that the search covers was seen. */
  complete = false;
  protected readonly ids = new TaskIds();

  constructor(program: Program) {
    this.program = program;
  }

  /** Goes on for about `executions` runs; returns whether there is more to do. */
  abstract advance(executions: number): boolean;

  /** The share of the search that is done, in 0 to 1, as far as it can be told. */
  estimate(): number {
    return this.complete ? 1 : 0;
  }

  protected newWorld(): World {
    return new World(this.program, this.ids);
  }

  /** Counts a run that ended by itself, and keeps what it found. Returns whether to stop. */
  protected ended(world: World, schedule: ArrayLike<number>, length: number): boolean {
    this.totals.executions += 1;
    const finding = checkEnd(world);
    if (finding === null) return false;
    this.bug = { ...finding, schedule: Array.from({ length }, (_, i) => schedule[i]) };
    return true;
  }
}
