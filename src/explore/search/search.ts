/** What every way of searching has in common: runs one execution after the other and looks at how each ends. */

import { explainEndless } from '../checks/livelock.ts';
import { type LockEdge, LockOrder } from '../checks/lock-order.ts';
import { checkEnd } from '../checks/oracles.ts';
import { Execution } from '../world/execution.ts';
import type { Finding } from '../world/finding.ts';
import type { InvariantScopes } from '../world/invariant-scopes.ts';
import type { Program } from '../world/program.ts';
import { TaskIds } from '../world/task-ids.ts';
import type { PlainScopeEntry, PlainStep } from './plain-steps.ts';

export interface Bug extends Finding {
  /** Who took each step: 0 for the task that was started first in the run, and so on. */
  schedule: number[];
  /** The run has no end; the schedule stops after its loop. */
  isEndless?: boolean;
}

export interface Totals {
  executions: number;
  /** Runs given up because all that they could still do had been seen: wasted work. */
  blocked: number;
  steps: number;
}

/** How far `advance` came. `waits`: what comes next was given away, and `join` must bring what came of it. */
export type SearchProgress = 'more' | 'done' | 'waits';

/** A race that a part found with a step before it: what is to be tried in place of that step. */
export interface OuterRace {
  depth: number;
  sequence: PlainStep[];
}

/** What came of a part of a search, as plain data: for another thread. */
export interface PartOutcome {
  totals: Totals;
  lockEdges: LockEdge[];
  bug: { invariant: string; message: string; schedule: number[]; isEndless?: boolean } | null;
  /** The steps that led to the part, as they turned out. Of reductions only. */
  walk: PlainStep[];
  races: OuterRace[];
  /** Where to go on: the part was stopped before its end. */
  rest: object | null;
  /** The objects that invariants were seen to look at, and that the search did not know of. */
  looks: PlainScopeEntry[];
}

/** A part of a search that was given away, by its number. */
export interface Part {
  id: number;
  /** For `load`, of a search of the same kind over the same program. */
  state: object;
}

/** Runs that take more steps than this are taken for endless (I7). */
const MAX_STEPS = 20_000;

export abstract class Search {
  readonly totals: Totals = { executions: 0, blocked: 0, steps: 0 };
  readonly program: Program;
  readonly lockOrder = new LockOrder();
  bug: Bug | null = null;
  /** Runs that take more steps than this are taken for endless. */
  maxSteps = MAX_STEPS;
  /** It goes on from a file: where the program does something else now, its code has changed. */
  isResumed = false;
  /** Everything that the search covers was seen. */
  complete = false;
  /** `state` and `give` mean something. */
  canBeSaved = true;
  /** How often the search began anew, because invariants looked at more than was known. */
  restarts = 0;
  /** Of searches that leave out orders: the objects that invariants look at. */
  protected scopes: InvariantScopes | null = null;
  protected readonly ids = new TaskIds();
  private given = 0;

  constructor(program: Program) {
    this.program = program;
  }

  /** How many states were seen, by those who tell one from another. */
  get states(): number | null {
    return null;
  }

  /** Goes on for about `executions` runs. */
  abstract advance(executions: number): SearchProgress;

  /** The share of the search that is done, in 0 to 1, as far as it can be told. */
  estimate(): number {
    return this.complete ? 1 : 0;
  }

  /** Where the search is, as plain data: what `load` needs to go on from there. */
  abstract state(): object;

  /** Starts anew where another search was, with nothing counted. Throws StaleStateError when the program is another. */
  abstract load(state: object): void;

  /** Sets a part aside for another thread; null where there is none to be had. */
  abstract splitPart(): Part | null;

  /** The part that the search waits for, or 0. */
  abstract get awaited(): number;

  /** Takes what came of the part that the search waits for, as if it had gone there itself. */
  join(outcome: PartOutcome): void {
    const { totals } = this;
    totals.executions += outcome.totals.executions;
    totals.blocked += outcome.totals.blocked;
    totals.steps += outcome.totals.steps;
    this.lockOrder.merge(outcome.lockEdges);
    this.bug = outcome.bug;
  }

  /** Goes through the part that it waits for itself after all. */
  abstract reclaimPart(): void;

  /** What came of a part so far, as plain data. */
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

  /** To be called by `load`. */
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
    return new Execution(this.program, this.ids, null, this.scopes);
  }

  /** Counts a run that ended by itself, and keeps what it found. Returns whether to stop. */
  protected ended(execution: Execution, schedule: ArrayLike<number>, length: number): boolean {
    this.totals.executions += 1;
    const finding = checkEnd(execution);
    if (finding === null) return false;
    this.bug = this.bugOf(finding, execution, schedule, length);
    return true;
  }

  /** To be called after each step: gives up a run that takes too many. */
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

/** Without the objects that it is about, and without what is missing anyway. */
function plainBug({ invariant, message, schedule, isEndless }: Bug): NonNullable<PartOutcome['bug']> {
  return isEndless === true ? { invariant, message, schedule, isEndless } : { invariant, message, schedule };
}

/** What was written down of a search does not fit the program: its code has changed since. */
export class StaleStateError extends Error {}
