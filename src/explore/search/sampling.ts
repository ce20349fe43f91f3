/** Searches that draw orders at random. Each run has its own random numbers, so any thread can run it. */

import type { Execution } from '../world/execution.ts';
import type { Program } from '../world/program.ts';
import { Random } from './random.ts';
import type { Part, PartOutcome, SearchProgress } from './search.ts';
import { WalkSearch } from './walk.ts';

export const SAMPLING_NAMES = ['pct', 'pos', 'random'] as const;
export type SamplingName = (typeof SAMPLING_NAMES)[number];

/** Numbered runs: those from `next` to `end` - 1 are left. */
interface Numbers {
  next: number;
  end: number;
}

/** Fewer runs than this are not worth another thread. */
const MIN_PART = 64;

/**
 * Runs drawn at random. `random`: any ready task at each step. `pct`: tasks have priorities, and at `depth` - 1 steps
 * chosen before the run the running task falls to the bottom (Burckhardt et al., ASPLOS 2010). `pos`: each step has a
 * priority, drawn anew for those that a taken step races with (Yuan, Yang, Gu, CAV 2018).
 */
export class SamplingSearch extends WalkSearch {
  private readonly how: SamplingName;
  private readonly seed: number;
  private readonly depth: number;
  private random = new Random(0);
  private runs: Numbers;
  private start = 0;
  /** The parts that were given away, the nearest last. Each begins where the one before it, or `runs`, ends. */
  private parts: { id: number; end: number }[] = [];
  /** The number of steps in a run, for pct; 0 until measured. */
  private length = 0;

  constructor(program: Program, how: SamplingName, seed: number, executions: number, depth = 3) {
    super(program);
    this.how = how;
    this.seed = seed;
    this.depth = depth;
    this.runs = { next: 0, end: executions };
  }

  advance(executions: number): SearchProgress {
    for (let n = 0; n < executions; n++) {
      if (this.awaited > 0) return 'waits';
      if (this.runs.next >= this.runs.end) return 'done';
      this.draw(this.runs.next);
      const choose = this.how === 'random' ? this.anyone() : this.how === 'pct' ? this.pct() : this.pos();
      const execution = this.newExecution();
      this.walk(execution, choose);
      this.runs.next += 1;
      if (this.ended(execution, this.schedule, this.schedule.length)) return 'done';
    }
    return this.runs.next >= this.runs.end && this.parts.length === 0 ? 'done' : 'more';
  }

  override estimate(): number {
    const end = this.parts[0]?.end ?? this.runs.end;
    return (this.runs.next - this.start) / Math.max(1, end - this.start);
  }

  state(): Numbers {
    return { next: this.runs.next, end: this.parts[0]?.end ?? this.runs.end };
  }

  load(state: object): void {
    this.reset();
    this.runs = { ...(state as Numbers) };
    this.start = this.runs.next;
    this.parts = [];
  }

  /** Gives away the second half of the remaining runs. */
  splitPart(): Part | null {
    const { next, end } = this.runs;
    if (end - next < 2 * MIN_PART) return null;
    const middle = next + ((end - next) >> 1);
    const id = this.newPart();
    this.parts.push({ id, end });
    this.runs.end = middle;
    return { id, state: { next: middle, end } };
  }

  get awaited(): number {
    return this.runs.next < this.runs.end ? 0 : (this.parts.at(-1)?.id ?? 0);
  }

  reclaimPart(): void {
    this.runs.end = this.parts.pop()!.end;
  }

  override join(outcome: PartOutcome): void {
    super.join(outcome);
    const { end } = this.parts.pop()!;
    this.runs = outcome.rest === null ? { next: end, end } : { ...(outcome.rest as Numbers) };
  }

  override outcome(): PartOutcome {
    const isOver = this.bug !== null || (this.runs.next >= this.runs.end && this.parts.length === 0);
    return { ...super.outcome(), rest: isOver ? null : this.state() };
  }

  /** The random numbers of one run. */
  private draw(run: number): void {
    this.random = new Random(Math.imul(this.seed, 0x85ebca6b) ^ Math.imul(run + 1, 0xc2b2ae35));
    for (let i = 0; i < 4; i++) this.random.below(2);
  }

  private anyone(): (ready: readonly number[]) => number {
    return (ready) => ready[this.random.below(ready.length)];
  }

  private pct(): (ready: readonly number[], depth: number) => number {
    if (this.length === 0) this.length = this.lengthOfARun();
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

  /** The length of the run that always continues the first task that can go on: the same in every thread. */
  private lengthOfARun(): number {
    const execution = this.newExecution();
    for (let steps = 0; ; steps++) {
      const task = execution.order.find((one) => execution.isReady(one));
      if (task === undefined || execution.finding !== null || steps > 10_000) return Math.max(1, steps);
      execution.step(task);
    }
  }

  private pos(): (ready: readonly number[], depth: number, execution: Execution) => number {
    const priority: (number | undefined)[] = [];
    return (ready, _depth, execution) => {
      for (const task of ready) priority[task] ??= this.random.below(1 << 30);
      const best = highest(ready, priority as number[]);
      const object = execution.pending[best]!.object;
      for (const task of ready) if (execution.pending[task]!.object === object) priority[task] = undefined;
      return best;
    };
  }
}

function highest(ready: readonly number[], priority: readonly number[]): number {
  let best = ready[0];
  for (const task of ready) if (priority[task] > priority[best]) best = task;
  return best;
}
