/**
 * A second oracle, for programs with too many orders for `everyOrder`. It enters every prefix of every order, but only
 * one of those that differ in commuting steps. Each time that another order leads to such a prefix, it checks that the
 * tasks are about to do the same. It shares no code with the searches.
 */
import { Execution } from '../../src/explore/world/execution.ts';
import { InvariantScopes } from '../../src/explore/world/invariant-scopes.ts';
import type { Program } from '../../src/explore/world/program.ts';
import { TaskIds } from '../../src/explore/world/task-ids.ts';
import { type Op, OpKind } from '../../src/task/op.ts';
import { TaskHandle } from '../../src/task/task-handle.ts';
import type { ObservableProgram } from './every-order.ts';

/** What must be known of a step to tell which later steps must follow it. */
interface Step {
  /** Equal for two steps if and only if they and all that they must follow are the same. */
  readonly id: number;
  readonly task: number;
  readonly object: number;
  readonly isRead: boolean;
  readonly isShared: boolean;
  readonly isEvaluation: boolean;
  readonly seenBy: number;
  readonly peer: number;
  /** The last step of each task that this step must follow, itself included. */
  readonly past: readonly (number | undefined)[];
}

export interface Classes {
  /** How many classes of whole orders there are. */
  orders: number;
  /** How many classes of their prefixes. */
  prefixes: number;
  findings: Set<string>;
  /** For an observable program, as `everyOrder` finds them. */
  outcomes: Set<string>;
  looks: Set<string>;
}

const SHARED_KINDS: readonly OpKind[] = [OpKind.READ_LOCK, OpKind.READ_UNLOCK, OpKind.TRY_READ_LOCK];

class Enumeration {
  private readonly program: Program & Partial<ObservableProgram>;
  private readonly most: number;
  private readonly ids = new TaskIds();
  private readonly scopes: InvariantScopes | null;
  private readonly stepIds = new Map<string, number>();
  /** For each prefix: what its tasks are about to do. */
  private readonly prefixes = new Map<string, string>();
  private readonly found: Classes = {
    orders: 0,
    prefixes: 0,
    findings: new Set(),
    outcomes: new Set(),
    looks: new Set(),
  };

  constructor(program: Program, most: number, scopes: InvariantScopes | null) {
    this.program = program;
    this.most = most;
    this.scopes = scopes;
  }

  run(): Classes | null {
    const open: number[][] = [[]];
    for (let schedule = open.pop(); schedule !== undefined; schedule = open.pop()) {
      this.follow(schedule, open);
      if (this.prefixes.size > this.most) return null;
    }
    return { ...this.found, prefixes: this.prefixes.size };
  }

  /** Goes on from a prefix as long as what it reaches is new, and adds the other ways to `open`. */
  private follow(schedule: readonly number[], open: number[][]): void {
    const execution = new Execution(this.program, this.ids, { scopes: this.scopes });
    const steps: Step[] = [];
    const order = [...schedule];
    for (const task of schedule) steps.push(this.step(execution, task, steps));
    for (;;) {
      const ready = execution.finding === null ? execution.order.filter((task) => execution.isReady(task)) : [];
      if (!this.arrive(execution, steps, ready)) return;
      if (ready.length === 0) {
        this.end(execution);
        return;
      }
      for (const other of ready.slice(1)) open.push([...order, other]);
      order.push(ready[0]);
      steps.push(this.step(execution, ready[0], steps));
    }
  }

  private end(execution: Execution): void {
    const { program, found } = this;
    const isStuck = execution.finding === null && execution.unfinished().length > 0;
    const finding = isStuck ? { invariant: 'I4', message: 'stuck' } : execution.finish();
    found.orders += 1;
    if (finding !== null) found.findings.add(`${finding.invariant}: ${finding.message}`);
    if (program.outcome !== undefined) found.outcomes.add(program.outcome(execution));
  }

  /** Records a prefix; returns whether it is new. */
  private arrive(execution: Execution, steps: readonly Step[], ready: readonly number[]): boolean {
    const last: (number | undefined)[] = [];
    for (const { task, id } of steps) last[task] = id;
    const key = Array.from(last, (id) => id ?? '').join();
    const next = execution.order.map((task) => `${task} ${textOf(execution.pending[task])} ${ready.includes(task)}`);
    const { program, found } = this;
    const state = [...next.sort(), program.outcome?.(execution) ?? execution.finding?.message].join('; ');
    for (const look of program.seen?.() ?? []) found.looks.add(look);
    const before = this.prefixes.get(key);
    if (before === undefined) this.prefixes.set(key, state);
    else if (before !== state) throw new Error(`steps do not commute: ${before} in one order, ${state} in another`);
    return before === undefined;
  }

  private step(execution: Execution, task: number, before: readonly Step[]): Step {
    const op = execution.pending[task]!;
    execution.step(task);
    const isRead = op.kind === OpKind.READ || op.kind === OpKind.WAIT || !op.changed;
    const step = {
      task,
      object: op.object.serial,
      isRead,
      isShared: !isRead && SHARED_KINDS.includes(op.kind),
      isEvaluation: op.kind === OpKind.EVALUATE,
      seenBy: execution.seenBy,
      peer: op.object instanceof TaskHandle ? execution.handles.indexOf(op.object) : execution.spawned,
    };
    // Later steps of a task have greater numbers, since each contains the one before it.
    const past: (number | undefined)[] = [];
    for (const other of before) {
      if (other.task !== task && !mustKeep(other, step)) continue;
      for (const [owner, id] of other.past.entries()) {
        if (id !== undefined) past[owner] = Math.max(past[owner] ?? -1, id);
      }
    }
    const text = `${task} ${textOf(op)} ${isRead} ${Array.from(past, (id) => id ?? '')}`;
    const id = this.stepIds.get(text) ?? this.stepIds.size;
    this.stepIds.set(text, id);
    past[task] = id;
    return { ...step, id, past };
  }
}

function textOf(op: Op | null): string {
  return op === null ? 'ended' : `${op} ${op.object.serial}`;
}

/** Whether two steps of different tasks must keep their order. */
function mustKeep(a: Omit<Step, 'id' | 'past'>, b: Omit<Step, 'id' | 'past'>): boolean {
  if (a.peer === b.task || b.peer === a.task || a.isEvaluation || b.isEvaluation) return true;
  if ((a.seenBy & b.seenBy) !== 0) return true;
  return a.object === b.object && !(a.isRead && b.isRead) && !(a.isShared && b.isShared);
}

/**
 * Counts the classes of orders; null if there are more than `most` classes of prefixes. Begins anew while invariants
 * look at more objects than before. If `withInvariants` is false, no step must keep its order because of them.
 */
export function everyClass(program: Program, most: number, withInvariants = true): Classes | null {
  if (!withInvariants) return new Enumeration(program, most, null).run();
  const scopes = new InvariantScopes();
  for (;;) {
    const found = new Enumeration(program, most, scopes).run();
    if (found === null || scopes.grown.length === 0) return found;
    scopes.settle();
  }
}
