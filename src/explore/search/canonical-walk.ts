/**
 * Draws one order of each class of commuting orders, or none: a random walk with sleep sets (Godefroid, LNCS 1032). A
 * task that could have gone on sleeps until a step conflicts with its next one. Of all orders of a class, one path has
 * no end at which every task sleeps. Tasks rarely take turns, which suits programs with long tasks and few classes.
 */
import { accessAtMost, conflict, type PlannedStep } from '../world/access.ts';
import type { Execution } from '../world/execution.ts';
import type { StepLog } from '../world/step-log.ts';
import type { Random } from './random.ts';

export class CanonicalWalk {
  /** The logarithm of the inverse probability of the path so far. */
  logWeight = 0;
  private readonly log: StepLog;
  private readonly random: Random;
  private readonly turn: number;
  /** What invariants saw of a step, by its task and its number in it, as earlier walks tell. */
  private readonly seen: Map<number, number>;
  private sleep: PlannedStep[] = [];
  private readonly counts: number[] = [];
  private last = -1;

  /** `turn` is the chance that another task goes on. */
  constructor(log: StepLog, random: Random, turn: number, seen: Map<number, number>) {
    this.log = log;
    this.random = random;
    this.turn = turn;
    this.seen = seen;
  }

  /** Chooses one of the ready tasks; -1 if all of them sleep. */
  choose(execution: Execution, ready: readonly number[]): number {
    const awake = ready.filter((task) => !this.sleep.some((step) => step.task === task));
    if (awake.length === 0) return -1;
    const stays = awake.includes(this.last);
    const others = awake.filter((task) => task !== this.last);
    const order = stays ? [this.last, ...others] : others;
    let at: number;
    if (stays && others.length > 0) {
      const goesOn = this.random.fraction() >= this.turn;
      at = goesOn ? 0 : 1 + this.random.below(others.length);
      this.logWeight -= Math.log(goesOn ? 1 - this.turn : this.turn / others.length);
    } else {
      at = this.random.below(order.length);
      this.logWeight += Math.log(order.length);
    }
    for (const task of order.slice(0, at)) this.sleep.push(this.planned(execution, task));
    this.last = order[at];
    return order[at];
  }

  /** Must be called after each step that was taken, chosen or not. */
  took(index: number): void {
    const step = this.log.planned(index);
    this.seen.set(this.key(step.task), step.seenBy);
    this.counts[step.task] = (this.counts[step.task] ?? 0) + 1;
    this.sleep = this.sleep.filter((sleeping) => sleeping.task !== step.task && !conflict(sleeping, step));
  }

  private planned(execution: Execution, task: number): PlannedStep {
    const op = execution.pending[task]!;
    const seenBy = this.seen.get(this.key(task)) ?? 0;
    return { task, object: this.log.slotOf(op.object.serial), access: accessAtMost(op.kind), peer: -1, seenBy };
  }

  private key(task: number): number {
    return (this.counts[task] ?? 0) * 64 + task;
  }
}
