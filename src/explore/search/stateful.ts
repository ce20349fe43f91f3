/**
 * Searches depth first through states instead of orders. It does not enter a state twice, whatever order leads there,
 * and takes one order of commuting steps (sleep sets with state matching: Godefroid, LNCS 1032, chapter 5). It counts
 * states. It may miss bugs that only a whole order shows and no state on its way: it looks for unordered touches only
 * along the runs that it takes.
 */

import { areAllQueued } from '../checks/fair-queues.ts';
import { HeldLocks } from '../checks/lock-order.ts';
import { conflict, type PlannedStep } from '../world/access.ts';
import type { Execution } from '../world/execution.ts';
import type { Program } from '../world/program.ts';
import { StateKey } from '../world/state-key.ts';
import { StepLog } from '../world/step-log.ts';
import { type Part, Search, type SearchProgress } from './search.ts';

/** About 200 bytes each. Beyond this the search stops incomplete. */
const MAX_STATES = 5_000_000;

interface StatefulNode {
  /** Steps that were taken from here or before, and with which no later step conflicts. */
  sleep: PlannedStep[];
  /** Tasks whose steps are still to be taken from here. */
  left: number[];
  taken: PlannedStep | null;
}

export class StatefulSearch extends Search {
  private readonly log = new StepLog();
  private readonly histories = new Map<string, number>();
  /** For each state: the tasks that slept at every visit so far, so none was followed from there. */
  private readonly sleepers = new Map<string, bigint>();
  private readonly path: StatefulNode[] = [];

  constructor(program: Program) {
    super(program);
    this.canBeSaved = false;
  }

  override get states(): number {
    return this.sleepers.size;
  }

  advance(executions: number): SearchProgress {
    for (let n = 0; n < executions; n++) {
      if (this.run()) return 'done';
      if (!this.backtrack()) return 'done';
    }
    return 'more';
  }

  state(): object {
    throw new Error('a stateful search is not written down');
  }

  load(): void {
    throw new Error('a stateful search is not written down');
  }

  splitPart(): Part | null {
    return null;
  }

  get awaited(): number {
    return 0;
  }

  reclaimPart(): void {}

  /** Runs to the end or to a known state. Returns whether to stop. */
  private run(): boolean {
    const execution = this.newExecution();
    const key = new StateKey(execution, this.histories);
    const held = new HeldLocks();
    for (let depth = 0; ; depth++) {
      if (execution.finding !== null) return this.over(execution);
      if (depth === this.path.length) {
        const ready = execution.order.filter((task) => execution.isReady(task));
        if (ready.length === 0 || areAllQueued(execution, ready)) return this.over(execution);
        if (!this.arrive(key.key(), ready)) {
          this.totals.blocked += 1;
          return this.hasRace(execution);
        }
      }
      const node = this.path[depth];
      const task = depth < this.path.length - 1 ? node.taken!.task : node.left[0];
      const op = execution.pending[task]!;
      this.lockOrder.before(held, task, execution.handles[task].label, op);
      key.step(task);
      this.lockOrder.after(held, task, op);
      node.taken = this.log.taken(execution, task, op);
      this.totals.steps += 1;
      this.checkLength(execution, depth + 1);
    }
  }

  /** Records a reached state; returns whether anything is left to do in it. */
  private arrive(key: string, ready: readonly number[]): boolean {
    const parent = this.path.at(-1);
    const sleep =
      parent?.sleep.filter((step) => step.task !== parent.taken!.task && !conflict(step, parent.taken!)) ?? [];
    const asleep = sleep.reduce((mask, { task }) => mask | (1n << BigInt(task)), 0n);
    const before = this.sleepers.get(key);
    let left = ready.filter((task) => !isIn(asleep, task));
    if (before !== undefined) {
      left = left.filter((task) => isIn(before, task));
      this.sleepers.set(key, before & asleep);
    } else {
      this.sleepers.set(key, asleep);
    }
    if (left.length === 0) return false;
    const kept = before === undefined ? sleep : sleep.filter(({ task }) => isIn(before, task));
    this.path.push({ sleep: kept, left, taken: null });
    return true;
  }

  private over(execution: Execution): boolean {
    const tasks = this.path.map((node) => node.taken!.task);
    return this.ended(execution, tasks, tasks.length);
  }

  /** Checks for races in a run that is cut short. */
  private hasRace(execution: Execution): boolean {
    const race = execution.dataRace();
    if (race !== null)
      this.bug = { ...race, schedule: this.path.map(({ taken }) => execution.order.indexOf(taken!.task)) };
    return race !== null;
  }

  private backtrack(): boolean {
    if (this.sleepers.size > MAX_STATES) return false;
    for (let node = this.path.at(-1); node !== undefined; node = this.path.at(-1)) {
      node.sleep.push(node.taken!);
      node.left.shift();
      if (node.left.length > 0) return true;
      this.path.pop();
    }
    this.complete = true;
    return false;
  }
}

function isIn(mask: bigint, task: number): boolean {
  return ((mask >> BigInt(task)) & 1n) === 1n;
}
