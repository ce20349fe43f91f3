/**
 * Dynamic partial-order reduction: of all orders of steps that differ only in steps that commute, one is run. `optimal`
 * keeps wakeup trees and never starts a run in vain; `source` keeps single steps to start with and gives up runs that
 * turn out to be known (Abdulla, Aronis, Jonsson, Sagonas: Source Sets, JACM 2017).
 */
import { Lock } from '../task/lock.ts';
import { HeldLocks } from './lock-order.ts';
import type { Program } from './program.ts';
import { Races } from './races.ts';
import { MAX_STEPS, Search } from './search.ts';
import { Trace } from './trace.ts';
import { type Branch, conflict, insert, isInitial, isWeakInitial, type Planned } from './wakeup.ts';
import type { World } from './world.ts';

const NOTHING: readonly never[] = [];

/** A state on the current path, before the step at its depth. */
interface Node {
  /** Steps that were explored from here, or before, and that nothing since has touched. */
  sleep: Planned[];
  /** Orders that are still to be run from here; the one that runs now is not among them. */
  branches: Branch[];
  /** What is planned after the step that runs now. */
  next: Branch[];
  /** For `source`: tasks that were or will be run from here. */
  started: number[];
  explored: number;
}

export class DporSearch extends Search {
  private readonly trace = new Trace();
  private readonly races = new Races(this.trace);
  private readonly path: Node[] = [];
  private readonly optimal: boolean;
  private held = new HeldLocks();
  private from = 0;
  private chosen: Branch | null = null;
  private sequence: Planned[] = [];

  constructor(program: Program, optimal: boolean) {
    super(program);
    this.optimal = optimal;
  }

  advance(executions: number): boolean {
    for (let n = 0; n < executions; n++) {
      const world = this.replay();
      const wasBlocked = this.extend(world);
      if (wasBlocked) this.totals.blocked += 1;
      else if (this.ended(world, this.trace.task, this.trace.length)) return false;
      this.races.find(world, this.from, (earlier, later, step) => this.onRace(earlier, later, step));
      if (!this.backtrack()) {
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
    for (const node of this.path) {
      const siblings = node.explored + 1 + node.branches.length;
      done += (share * node.explored) / siblings;
      share /= siblings;
      if (share < 1e-12) break;
    }
    return done;
  }

  private replay(): World {
    const world = this.newWorld();
    this.held = new HeldLocks();
    for (let depth = 0; depth < this.from; depth++) {
      const task = this.trace.task[depth];
      const op = world.pending[task]!;
      world.step(task);
      if (op.object instanceof Lock) this.lockOrder.after(this.held, task, op);
    }
    this.totals.steps += this.from;
    return world;
  }

  /** Runs on from the last choice to the end. Returns whether it was given up. */
  private extend(world: World): boolean {
    const { trace, path } = this;
    for (const task of world.order) if (task >= trace.width) trace.width = task + 1;
    let branch = this.chosen;
    for (;;) {
      const depth = trace.length;
      if (world.finding !== null) return false;
      let task: number;
      if (branch !== null) {
        task = branch.task;
      } else {
        const node = this.arrive(depth);
        const planned = node.branches.shift();
        if (planned !== undefined) {
          branch = planned;
          task = planned.task;
        } else {
          task = this.firstAwake(world, node.sleep);
          if (task === -1) {
            path.length = depth;
            return false;
          }
          if (task === -2) {
            path.length = depth;
            return true;
          }
        }
      }
      if (!world.isReady(task)) throw new Error(`${this.program.name}: a planned step cannot be taken`);
      const node = path[depth];
      node.next = branch === null ? [] : branch.children;
      node.started.push(task);
      branch = null;
      this.take(world, task);
      if (trace.length > MAX_STEPS) {
        world.finding = { invariant: 'I7', message: `a run of more than ${MAX_STEPS} steps: somebody waits for ever` };
      }
    }
  }

  private take(world: World, task: number): void {
    const op = world.pending[task]!;
    const isLock = op.object instanceof Lock;
    if (isLock) this.lockOrder.before(this.held, task, world.handles[task].label, op);
    this.trace.take(world, task);
    if (isLock) this.lockOrder.after(this.held, task, op);
    this.totals.steps += 1;
  }

  /** The state that the path has just reached: what still sleeps, and what is planned. */
  private arrive(depth: number): Node {
    const node: Node = { sleep: NOTHING as never, branches: NOTHING as never, next: [], started: [], explored: 0 };
    if (depth > 0) {
      const parent = this.path[depth - 1];
      const last = this.planned(depth - 1);
      node.sleep = parent.sleep.filter((step) => step.task !== last.task && !conflict(step, last));
      node.branches = parent.next;
    } else {
      node.sleep = [];
      node.branches = [];
    }
    this.path[depth] = node;
    this.path.length = depth + 1;
    return node;
  }

  /** -1 where no task can take a step, -2 where all that can are asleep. */
  private firstAwake(world: World, sleep: readonly Planned[]): number {
    let anyReady = false;
    search: for (const task of world.order) {
      if (!world.isReady(task)) continue;
      anyReady = true;
      for (const step of sleep) if (step.task === task) continue search;
      return task;
    }
    return anyReady ? -2 : -1;
  }

  private planned(index: number): Planned {
    const { trace } = this;
    return {
      task: trace.task[index],
      object: trace.object[index],
      access: trace.access[index],
      peer: trace.peer[index],
    };
  }

  private onRace(earlier: number, later: number, step: Planned): void {
    const { trace } = this;
    const node = this.path[earlier];
    const sequence = this.sequence;
    sequence.length = 0;
    const end = this.optimal || later < 0 ? trace.length : later;
    for (let k = earlier + 1; k < end; k++) {
      if (k !== later && !trace.happensBefore(earlier, k)) sequence.push(this.planned(k));
    }
    sequence.push(step);
    if (this.optimal) {
      for (const sleeping of node.sleep) if (isWeakInitial(sleeping, sequence)) return;
      insert(node.branches, sequence);
      return;
    }
    if (sequence.some((one) => node.started.includes(one.task) && isInitial(one, sequence))) return;
    const first = sequence[0];
    node.started.push(first.task);
    node.branches.push({ ...first, children: [] });
  }

  /** Goes back to the last state with something left to run. Returns false at the end of the search. */
  private backtrack(): boolean {
    const { trace, path } = this;
    for (let depth = trace.length - 1; depth >= 0; depth--) {
      const node = path[depth];
      const done = this.planned(depth);
      trace.truncate(depth);
      node.sleep.push(done);
      node.explored += 1;
      const next = this.nextBranch(node);
      if (next === undefined) continue;
      path.length = depth + 1;
      this.from = depth;
      this.chosen = next;
      return true;
    }
    return false;
  }

  private nextBranch(node: Node): Branch | undefined {
    for (;;) {
      const next = node.branches.shift();
      if (next === undefined || this.optimal) return next;
      // Single steps may have been seen already, in a part of the tree that was left before.
      if (!node.sleep.some((step) => step.task === next.task)) return next;
    }
  }
}
