/** The common part of all searches: runs one execution after the other and checks how each ends. */

import { explainEndless } from '../checks/livelock.ts';
import { type LockEdge, LockOrder } from '../checks/lock-order.ts';
import { checkEnd } from '../checks/oracles.ts';
import { Execution } from '../world/execution.ts';
import type { Finding } from '../world/finding.ts';
import type { InvariantScopes } from '../world/invariant-scopes.ts';
import { KeptWorld } from '../world/kept-world.ts';
import type { Program } from '../world/program.ts';
import { TaskIds } from '../world/task-ids.ts';
import type { PlainScopeEntry, PlainStep } from './plain-steps.ts';

export interface Bug extends Finding {
  /** The task of each step: 0 for the first task that the run started, and so on. */
  schedule: number[];
  /** The run has no end; the schedule stops after its loop. */
  isEndless?: boolean;
}

export interface Totals {
  executions: number;
  /** How many runs were given up because everything left in them was already seen: wasted work. */
  blocked: number;
  steps: number;
}

/** The result of `advance`. `waits`: the next part was given away, and `join` must bring its result. */
export type SearchProgress = 'more' | 'done' | 'waits';

/** A part's race with a step before it, and the order to try in place of that step. */
export interface OuterRace {
  depth: number;
  sequence: PlainStep[];
  /** The least that the last step may touch, if it is not exact. */
  least: PlainStep | null;
}

/** The result of a part as plain data, for another thread. */
export interface PartOutcome {
  totals: Totals;
  lockEdges: LockEdge[];
  bug: { invariant: string; message: string; schedule: number[]; isEndless?: boolean } | null;
  /** For reductions: the steps that led to the part, as they turned out. */
  walk: PlainStep[];
  races: OuterRace[];
  /** Where to continue, if the part was stopped before its end. */
  rest: object | null;
  /** Objects that invariants looked at and that the search did not know. */
  looks: PlainScopeEntry[];
}

/** A part of a search that was given away. */
export interface Part {
  id: number;
  /** For `load` of a search of the same kind and program. */
  state: object;
}

/** A run with more steps counts as endless (I7). */
const MAX_STEPS = 20_000;

export abstract class Search {
  readonly totals: Totals = { executions: 0, blocked: 0, steps: 0 };
  readonly program: Program;
  readonly lockOrder = new LockOrder();
  bug: Bug | null = null;
  /** A run with more steps counts as endless. */
  maxSteps = MAX_STEPS;
  /** The search continues from a file. A different step then means that the program's code has changed. */
  isResumed = false;
  /** Whether everything that the search covers was seen. */
  complete = false;
  /** Whether `state` and parts are supported. */
  canBeSaved = true;
  /** How often the search restarted because invariants looked at objects that it did not know. */
  restarts = 0;
  /** Whether to take one of the orders that differ only by exchanges of alike tasks. */
  oneOfAlike = false;
  /** For searches that leave out orders: the objects that invariants look at. */
  protected scopes: InvariantScopes | null = null;
  protected readonly ids = new TaskIds();
  private readonly kept = new KeptWorld();
  private given = 0;

  constructor(program: Program) {
    this.program = program;
  }

  /** How many states were seen; null for searches that do not compare states. */
  get states(): number | null {
    return null;
  }

  /** How many steps from the start the search is now; null for searches without a place. */
  get currentDepth(): number | null {
    return null;
  }

  /** Runs about `executions` more executions. */
  abstract advance(executions: number): SearchProgress;

  /** The share of the search that is done, from 0 to 1, as far as it is known. */
  estimate(): number {
    return this.complete ? 1 : 0;
  }

  /** The position of the search as plain data, for `load`. */
  abstract state(): object;

  /** Restarts at another search's position, with all counts at zero. Throws StaleStateError for a different program. */
  abstract load(state: object): void;

  /** Sets a part aside for another thread; returns null if there is none. */
  abstract splitPart(): Part | null;

  /** The part that the search waits for, or 0. */
  abstract get awaited(): number;

  /** Joins the result of the part that the search waits for, as if it had searched the part itself. */
  join(outcome: PartOutcome): void {
    const { totals } = this;
    totals.executions += outcome.totals.executions;
    totals.blocked += outcome.totals.blocked;
    totals.steps += outcome.totals.steps;
    this.lockOrder.merge(outcome.lockEdges);
    this.bug = outcome.bug;
  }

  /** Whether a part must end before its end, since invariants looked at objects that the whole search must know. */
  get mustStop(): boolean {
    return false;
  }

  /** Takes back the awaited part, to search it here. */
  abstract reclaimPart(): void;

  /** The result of a part so far, as plain data. */
  outcome(): PartOutcome {
    const { bug } = this;
    return {
      totals: { ...this.totals },
      lockEdges: this.lockOrder.list(),
      bug: bug === null ? null : plainBug(bug),
      walk: [],
      races: [],
      rest: bug !== null || this.complete ? null : this.state(),
      looks: [],
    };
  }

  /** `load` must call this. */
  protected reset(): void {
    Object.assign(this.totals, { executions: 0, blocked: 0, steps: 0 });
    this.lockOrder.clear();
    this.bug = null;
    this.complete = false;
  }

  /** The number of the part that was given away last. */
  get lastPart(): number {
    return this.given;
  }

  protected newPart(): number {
    this.given += 1;
    return this.given;
  }

  protected newExecution(): Execution {
    const { scopes, kept, oneOfAlike } = this;
    return new Execution(this.program, this.ids, { scopes, kept, oneOfAlike });
  }

  /** Counts a run that ended by itself, and records its finding. Returns whether to stop. */
  protected ended(execution: Execution, schedule: ArrayLike<number>, length: number): boolean {
    this.totals.executions += 1;
    const finding = checkEnd(execution);
    if (finding === null) return false;
    this.bug = this.bugOf(finding, execution, schedule, length);
    return true;
  }

  /** Must be called after each step. Gives up a run with too many steps. */
  protected checkLength(execution: Execution, length: number): void {
    if (length <= this.maxSteps) return;
    execution.finding = { invariant: 'I7', message: `a run of more than ${this.maxSteps} steps` };
  }

  protected bugOf(finding: Finding, execution: Execution, schedule: ArrayLike<number>, length: number): Bug {
    const numbers = Array.from({ length }, (_, i) => execution.order.indexOf(schedule[i]));
    if (length <= this.maxSteps) return { ...finding, schedule: numbers };
    const endless = explainEndless(this.program, numbers);
    return { ...endless.finding, schedule: endless.schedule, isEndless: true };
  }
}

/** Drops the finding's objects and absent fields. */
function plainBug({ invariant, message, schedule, isEndless }: Bug): NonNullable<PartOutcome['bug']> {
  return isEndless === true ? { invariant, message, schedule, isEndless } : { invariant, message, schedule };
}

/** The recorded state does not fit the program, so its code has changed since. */
export class StaleStateError extends Error {}
