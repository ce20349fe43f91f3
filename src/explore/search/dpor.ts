/**
 * Dynamic partial-order reduction: of all orders that differ only in commuting steps, it runs one. `optimal` keeps
 * wakeup trees and never runs in vain. `source` keeps single first steps, and gives up runs that turn out to be known
 * (Abdulla, Aronis, Jonsson, Sagonas: Source Sets, JACM 2017).
 */

import type { Op } from '../../task/op.ts';
import { differenceAt } from '../checks/determinism.ts';
import { HeldLocks } from '../checks/lock-order.ts';
import { checkEnd } from '../checks/oracles.ts';
import { conflict, type PlannedStep } from '../world/access.ts';
import { Execution, isLockStep } from '../world/execution.ts';
import { InvariantScopes, type ScopeEntry } from '../world/invariant-scopes.ts';
import { KeptWorld } from '../world/kept-world.ts';
import type { Program } from '../world/program.ts';
import { StepLog } from '../world/step-log.ts';
import { type PathNode, type PathState, PlainPath } from './path.ts';
import { type PlainStep, StepNames } from './plain-steps.ts';
import { type Cut, QueueCuts } from './queue-cuts.ts';
import { Races } from './races.ts';
import { type OuterRace, type Part, type PartOutcome, Search, type SearchProgress, StaleStateError } from './search.ts';
import {
  type Branch,
  branchOf,
  firstLine,
  insert,
  isInitial,
  isWeakInitial,
  PlannedOrder,
  type Settle,
} from './wakeup.ts';

const NOT_READY = 'could be taken in one run, and not in another';

/** Shared by the many states with nothing planned and no sleeping task. It must not change. */
const NOTHING: never[] = [];

export class DporSearch extends Search {
  private readonly log = new StepLog();
  private readonly races: Races;
  private readonly names = new StepNames(this.ids, this.log);
  private readonly plain = new PlainPath(this.names);
  private readonly optimal: boolean;
  private path: PathNode[] = [];
  private held = new HeldLocks();
  /** The state to continue from, and the branch to take; null before the first run. */
  private from = 0;
  private chosen: Branch | null = null;
  /** States above this depth belong to another search, of which this one is a part. */
  private base = 0;
  private walk: PlainStep[] = [];
  private readonly outerRaces = new Map<string, OuterRace>();
  private readonly sequence: PlannedStep[] = [];
  private readonly invariantScopes = new InvariantScopes();
  /** For runs beside the one whose races are looked for. */
  private readonly spare = new KeptWorld();
  private readonly queueCuts = new QueueCuts(this.log, () => this.newSpare(true));

  constructor(program: Program, optimal: boolean) {
    super(program);
    this.optimal = optimal;
    this.oneOfAlike = true;
    this.scopes = this.invariantScopes;
    this.races = new Races(this.log, this.invariantScopes);
  }

  advance(executions: number): SearchProgress {
    for (let n = 0; n < executions; n++) {
      if (this.awaited > 0) return 'waits';
      const execution = this.replay();
      if (execution.finding?.invariant === 'determinism') {
        this.log.truncate(execution.steps);
        this.ended(execution, this.log.task, this.log.length);
        return 'done';
      }
      const wasBlocked = this.extend(execution);
      this.rememberWalk();
      if (wasBlocked) this.totals.blocked += 1;
      else if (this.ended(execution, this.log.task, this.log.length)) return 'done';
      const cut = execution.finding === null ? this.queueCuts.find(execution) : null;
      if (cut !== null) return this.foundAt(cut);
      if (this.invariantScopes.grown.length > 0) {
        if (this.mustStop) return 'done';
        this.restart();
        continue;
      }
      this.races.find(execution, this.from, this.onRace);
      if (!this.backtrack(this.log.length - 1)) return 'done';
    }
    return 'more';
  }

  /** Reports a bug in a state that only another order reaches. */
  private foundAt({ execution, schedule }: Cut): SearchProgress {
    const order = schedule.map((task) => execution.order.indexOf(task));
    this.bug = { ...checkEnd(execution)!, schedule: order };
    return 'done';
  }

  override get currentDepth(): number {
    return this.path.length;
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

  state(): PathState {
    return this.plain.stateOf(this.path.slice(0, this.from + 1), this.chosen, this.base, this.looks);
  }

  load(state: object): void {
    this.reset();
    const { nodes, chosen, base, looks } = this.plain.restore(state as PathState);
    this.invariantScopes.load(looks);
    this.path = nodes;
    this.from = Math.max(0, nodes.length - 1);
    this.chosen = chosen;
    this.base = base;
    this.walk = [];
    this.outerRaces.clear();
    this.log.truncate(0);
  }

  get awaited(): number {
    return this.chosen?.part ?? 0;
  }

  /** Gives away everything after the first line of the shallowest branch that is still to be run. */
  splitPart(): Part | null {
    for (let depth = this.base; depth < this.from; depth++) {
      const node = this.path[depth];
      const sleep = [...node.sleep, node.taken!];
      for (const branch of node.branches) {
        if (branch.part === 0 && (this.optimal || !sleep.some((step) => step.task === branch.step.task))) {
          branch.part = this.newPart();
          const line = firstLine(branch);
          // Equal parts must have equal states, so no bounds that depend on what was asked so far.
          if (line[line.length - 1].least !== null) this.settleAt(depth)(line);
          return { id: branch.part, state: this.plain.partOf(this.path, depth, sleep, line, this.looks) };
        }
        branch.outcome ??= this.probe(depth, branch);
        sleep.push(branch.outcome);
      }
    }
    return null;
  }

  reclaimPart(): void {
    this.chosen!.part = 0;
  }

  override join(outcome: PartOutcome): void {
    super.join(outcome);
    if (this.bug !== null) return;
    if (outcome.looks.length > 0) {
      for (const [scope, serial] of this.names.looks(outcome.looks)) this.invariantScopes.add(scope, serial);
      if (!this.mustStop) this.restart();
      return;
    }
    const end = this.arriveBy(outcome.walk.map((step) => this.names.step(step)));
    for (const { depth, sequence, least } of outcome.races) {
      this.plan(
        depth,
        sequence.map((step) => this.names.step(step)),
        least === null ? null : this.names.step(least),
      );
    }
    if (outcome.rest === null) {
      this.backtrack(end);
      return;
    }
    const { nodes, chosen } = this.plain.restore(outcome.rest as PathState);
    this.path = [...this.path.slice(0, end + 1), ...nodes.slice(end + 1)];
    this.from = this.path.length - 1;
    this.chosen = chosen;
  }

  override outcome(): PartOutcome {
    const { grown } = this.invariantScopes;
    const outcome = { ...super.outcome(), walk: this.walk, races: [...this.outerRaces.values()] };
    return grown.length === 0 ? outcome : { ...outcome, rest: null, looks: this.names.plainLooks(grown) };
  }

  override get mustStop(): boolean {
    return this.base > 0 && this.invariantScopes.grown.length > 0;
  }

  private get looks(): readonly ScopeEntry[] {
    return this.invariantScopes.all;
  }

  /** Restarts with all known looks of the invariants: the search may have left out orders that invariants must see. */
  private restart(): void {
    this.invariantScopes.settle();
    Object.assign(this.totals, { executions: 0, blocked: 0, steps: 0 });
    this.path = [];
    this.from = 0;
    this.chosen = null;
    this.log.truncate(0);
    this.restarts += 1;
  }

  /** Restores the states along the first line of the branch that was given away; returns the depth of its last step. */
  private arriveBy(walk: readonly PlannedStep[]): number {
    let branch = this.chosen!;
    let depth = this.from;
    for (const taken of walk) {
      if (depth > this.from) branch = this.arrive(depth).branches.shift()!;
      const node = this.path[depth];
      node.next = branch.children;
      node.taken = taken;
      if (!this.optimal) node.started.push(taken.task);
      depth += 1;
    }
    return depth - 1;
  }

  /** A run beside the main one. Without checks it teaches the search no looks of invariants. */
  private newSpare(checks: boolean): Execution {
    const { invariantScopes: scopes, spare: kept, oneOfAlike } = this;
    return new Execution(this.program, this.ids, { scopes, checks, kept, oneOfAlike });
  }

  /** Finds out how a step turns out before it is taken. */
  private probe(depth: number, branch: Branch): PlannedStep {
    const { task } = branch.step;
    const execution = this.newSpare(false);
    for (let at = 0; at < depth; at++) execution.step(this.path[at].taken!.task);
    const op = execution.pending[task]!;
    execution.step(task);
    return this.log.taken(execution, task, op);
  }

  /** Takes the steps up to the state to continue from, and records those that are new. */
  private replay(): Execution {
    const { log, path } = this;
    const execution = this.newExecution();
    this.held = new HeldLocks();
    for (let depth = 0; depth < this.from; depth++) {
      const { task } = path[depth].taken!;
      const op = execution.pending[task];
      const change = depth < log.length ? log.retake(execution, task, depth) : this.rewrite(execution, depth);
      if (change !== null) {
        this.differs(execution, task, depth, change);
        break;
      }
      if (isLockStep(op!.kind)) this.lockOrder.after(this.held, task, op!);
    }
    this.totals.steps += this.from;
    return execution;
  }

  /** Takes a step on the path that is not recorded; returns how it differs from the first time, or null. */
  private rewrite(execution: Execution, depth: number): string | null {
    const { log, path } = this;
    const { task, object, access } = path[depth].taken!;
    if (execution.pending[task] == null || !execution.isReady(task)) return NOT_READY;
    log.take(execution, task);
    return log.object[depth] === object && log.access[depth] === access ? null : 'touched another object, or otherwise';
  }

  /**
   * The same steps have a different result: the program is not deterministic, or has changed since the file was
   * written.
   */
  private differs(execution: Execution, task: number, depth: number, how: string): void {
    if (this.isResumed) throw new StaleStateError(`${this.program.name}: a step that was planned cannot be taken`);
    const label = execution.handles[task]?.label ?? this.ids.nameOf(task);
    execution.finding = differenceAt(depth, label, how);
  }

  /** Runs from the last choice to the end. Returns whether the run was given up. */
  private extend(execution: Execution): boolean {
    const { log, path } = this;
    for (const task of execution.order) if (task >= log.width) log.width = task + 1;
    let branch = this.chosen;
    for (;;) {
      const depth = log.length;
      if (execution.finding !== null) return false;
      let task: number;
      if (branch !== null) {
        task = branch.step.task;
      } else {
        const node = this.arrive(depth);
        const planned = node.branches.shift();
        if (planned !== undefined) {
          branch = planned;
          task = planned.step.task;
        } else {
          task = this.firstAwake(execution, node.sleep);
          if (task < 0) {
            path.length = depth;
            return task === -2;
          }
        }
      }
      if (!execution.isReady(task)) {
        this.differs(execution, task, depth, NOT_READY);
        return false;
      }
      const node = path[depth];
      node.next = branch === null ? NOTHING : branch.children;
      if (!this.optimal) node.started.push(task);
      branch = null;
      this.take(execution, task, node);
      this.checkLength(execution, log.length);
    }
  }

  private take(execution: Execution, task: number, node: PathNode): void {
    const op = execution.pending[task]!;
    const isLock = isLockStep(op.kind);
    if (isLock) this.lockOrder.before(this.held, task, execution.handles[task].label, op);
    this.log.take(execution, task);
    node.taken = this.log.planned(this.log.length - 1);
    if (isLock) this.lockOrder.after(this.held, task, op);
    this.totals.steps += 1;
  }

  /** For a part: records how the steps that lead to it turned out. */
  private rememberWalk(): void {
    if (this.base === 0 || this.walk.length > 0) return;
    const walked = this.path.slice(this.from, this.base);
    this.walk = walked.map((node) => this.names.plain(node.taken!));
  }

  /** Adds the state that the path has just reached, with its sleeping tasks and planned branches. */
  private arrive(depth: number): PathNode {
    const started = this.optimal ? NOTHING : [];
    const node: PathNode = { sleep: NOTHING, branches: NOTHING, next: NOTHING, started, explored: 0, taken: null };
    if (depth > 0) {
      const parent = this.path[depth - 1];
      const last = parent.taken!;
      if (parent.sleep.length > 0) {
        node.sleep = parent.sleep.filter((step) => step.task !== last.task && !conflict(step, last));
      }
      node.branches = parent.next;
    }
    this.path[depth] = node;
    this.path.length = depth + 1;
    return node;
  }

  /** Returns -1 if no task can take a step, -2 if all that can are asleep. */
  private firstAwake(execution: Execution, sleep: readonly PlannedStep[]): number {
    let anyReady = false;
    for (const task of execution.order) {
      if (!execution.isReady(task)) continue;
      anyReady = true;
      if (!isAsleep(task, sleep)) return task;
    }
    return anyReady ? -2 : -1;
  }

  private readonly onRace = (earlier: number, later: number, step: PlannedStep, least: PlannedStep | null): void => {
    const { log, sequence, path } = this;
    sequence.length = 0;
    const end = this.optimal || later < 0 ? log.length : later;
    for (let k = earlier + 1; k < end; k++) {
      if (k !== later && !log.happensBefore(earlier, k)) sequence.push(path[k].taken!);
    }
    sequence.push(step);
    this.plan(earlier, sequence, least);
  };

  /**
   * Plans an order that reverses a race with the step at `depth`, unless it has been run or will be. `least` is the
   * least that the last step may touch in the new order, or null if it is exact.
   */
  private plan(depth: number, sequence: readonly PlannedStep[], least: PlannedStep | null): void {
    const node = this.path[depth];
    if (this.optimal) {
      for (const sleeping of node.sleep) if (isWeakInitial(sleeping, sequence)) return;
    } else if (this.isStarted(node, sequence)) return;
    if (depth < this.base) {
      const steps = sequence.map((step) => this.names.plain(step));
      const plain = { depth, sequence: steps, least: least === null ? null : this.names.plain(least) };
      this.outerRaces.set(JSON.stringify(plain), plain);
      return;
    }
    if (node.branches === NOTHING) node.branches = [];
    if (this.optimal) this.insertAt(depth, sequence, least);
    else {
      node.started.push(sequence[0].task);
      node.branches.push(branchOf({ ...sequence[0] }));
    }
  }

  /** For `optimal`: adds an order to the tree of the state at `depth`, unless it is there or begins with a sleeper. */
  private insertAt(depth: number, sequence: readonly PlannedStep[], least: PlannedStep | null): void {
    const node = this.path[depth];
    const last = { ...sequence[sequence.length - 1] };
    const steps = [...sequence.slice(0, -1), last];
    // A tree that overstates the touches of steps would mistake one order for another, and leave it out.
    const order = new PlannedOrder(
      steps,
      least === null ? null : { ...least },
      () => this.exactly(depth, steps).at(-1)!,
    );
    for (const sleeping of node.sleep) if (order.canBeginWith(sleeping)) return;
    insert(node.branches, order, this.settleAt(depth));
  }

  /** Makes the steps of branches exact that are planned for the state at `depth`. */
  private settleAt(depth: number): Settle {
    return (line) => {
      const steps = line.map((branch) => branch.step);
      Object.assign(line[line.length - 1], { step: this.exactly(depth, steps).at(-1), least: null });
    };
  }

  /** For `source`: whether a task that was or will be run from the state can begin the order. */
  private isStarted({ started }: PathNode, sequence: readonly PlannedStep[]): boolean {
    return sequence.some(({ task }, i) => started.includes(task) && isInitial(sequence, i));
  }

  /** The same order, with its last step as it turns out there. */
  private exactly(depth: number, sequence: readonly PlannedStep[]): readonly PlannedStep[] {
    const execution = this.newSpare(false);
    for (let at = 0; at < depth; at++) execution.step(this.path[at].taken!.task);
    let op: Op | null = null;
    for (const { task } of sequence) {
      op = execution.pending[task] ?? null;
      if (op === null || !execution.isReady(task)) return sequence;
      execution.step(task);
    }
    const last = sequence.length - 1;
    return sequence.with(last, this.log.taken(execution, sequence[last].task, op!));
  }

  /** Goes back from `depth` to the last state with something left to run; returns false at the end of the search. */
  private backtrack(depth: number): boolean {
    const { log, path } = this;
    for (let at = depth; at >= this.base; at--) {
      const node = path[at];
      if (at < log.length) log.truncate(at);
      if (node.sleep === NOTHING) node.sleep = [node.taken!];
      else node.sleep.push(node.taken!);
      node.explored += 1;
      const next = this.nextBranch(node);
      if (next === undefined) continue;
      path.length = at + 1;
      this.from = at;
      this.chosen = next;
      return true;
    }
    this.chosen = null;
    this.complete = true;
    return false;
  }

  private nextBranch(node: PathNode): Branch | undefined {
    for (;;) {
      const next = node.branches.shift();
      if (next === undefined || this.optimal) return next;
      // An earlier part of the tree may have run single steps already.
      if (!node.sleep.some((step) => step.task === next.step.task)) return next;
    }
  }
}

function isAsleep(task: number, sleep: readonly PlannedStep[]): boolean {
  for (const step of sleep) if (step.task === task) return true;
  return false;
}
