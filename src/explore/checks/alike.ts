/**
 * Checks that tasks which a program declares alike are. It takes an order of steps, and the same order with the tasks
 * exchanged. Each step must do the same to the exchanged object, with the same result.
 */
import type { Op } from '../../task/op.ts';
import { Shared } from '../../task/shared.ts';
import { inWords } from '../../task/words.ts';
import { Random } from '../search/random.ts';
import { Execution } from '../world/execution.ts';
import type { Finding } from '../world/finding.ts';
import { KeptWorld } from '../world/kept-world.ts';
import type { Program } from '../world/program.ts';
import { TaskIds } from '../world/task-ids.ts';

/** How many orders are drawn. In some of them tasks take long turns. */
const ORDERS = 60;
const MAX_STEPS = 2_000;

export interface Unlike {
  finding: Finding;
  schedule: number[];
}

/** Checks the declarations of a program on random orders. Returns null if it declares nothing, or if all is well. */
export function findUnlike(program: Program): Unlike | null {
  const check = new AlikeCheck(program);
  if (!check.isNeeded) return null;
  const random = new Random(1);
  for (let n = 0; n < ORDERS; n++) {
    const unlike = check.exchange(random, n % 3 === 0 ? 0.1 : n % 3 === 1 ? 0.5 : 1);
    if (unlike !== null) return unlike;
  }
  return null;
}

class AlikeCheck {
  private readonly program: Program;
  private readonly ids = new TaskIds();
  private readonly worlds = [new KeptWorld(), new KeptWorld()];
  private readonly alikes: readonly (readonly number[])[];

  constructor(program: Program) {
    this.program = program;
    this.alikes = this.newRun(0).alikes;
  }

  get isNeeded(): boolean {
    return this.alikes.some((tasks) => tasks.length > 1);
  }

  /** Draws an order, and compares it with itself after an exchange of tasks. `turn` is how often another task goes on. */
  exchange(random: Random, turn: number): Unlike | null {
    const runs = new ExchangedRuns(this.newRun(0), this.newRun(1), this.drawExchange(random));
    const { first } = runs;
    let last = -1;
    for (let step = 0; step < MAX_STEPS && first.finding === null; step++) {
      const ready = first.order.filter((task) => first.isReady(task));
      if (ready.length === 0) break;
      const goesOn = ready.includes(last) && random.fraction() > turn;
      last = goesOn ? last : ready[random.below(ready.length)];
      const how = runs.step(last);
      if (how !== null) return runs.unlike(how);
    }
    const how = runs.end();
    return how === null ? null : runs.unlike(how);
  }

  private newRun(world: number): Execution {
    return new Execution(this.program, this.ids, { kept: this.worlds[world] });
  }

  private drawExchange(random: Random): Map<number, number> {
    const exchange = new Map<number, number>();
    for (const tasks of this.alikes) {
      const left = [...tasks];
      for (const task of tasks) exchange.set(task, left.splice(random.below(left.length), 1)[0]);
    }
    return exchange;
  }
}

/** Two runs of one order, the second with tasks exchanged. */
export class ExchangedRuns {
  readonly first: Execution;
  private readonly second: Execution;
  private readonly tasks: Map<number, number>;
  /** The object of the second run for each object of the first, by serial numbers, and back. */
  private readonly objects = new Map<number, number>();
  private readonly objectsBack = new Map<number, number>();
  private readonly schedule: number[] = [];
  private readonly names: string[] = [];

  constructor(first: Execution, second: Execution, exchange: Map<number, number>) {
    this.first = first;
    this.second = second;
    this.tasks = exchange;
  }

  /** Takes a step of both runs; returns how they differ, or null. */
  step(task: number): string | null {
    const { first, second } = this;
    const other = this.tasks.get(task) ?? task;
    this.schedule.push(first.order.indexOf(task));
    this.names[0] = first.handles[task].label;
    this.names[1] = second.handles[other]?.label ?? 'no task';
    const op = first.pending[task]!;
    const twin = second.pending[other];
    if (twin == null || !this.isReady(other)) return 'can be taken by one of them alone';
    if (!this.haveSameKind(op, twin)) return `is (${op}) for one, and (${twin}) for the other`;
    if (!this.pair(op.object, twin.object)) return `is (${op}), and (${twin}) for the other: not the exchanged object`;
    first.step(task);
    second.step(other);
    if (!this.isSame(first.result, second.result)) {
      return `(${op}) gives ${inWords(first.result)}, and ${inWords(second.result)} for the other`;
    }
    if (first.spawned >= 0) this.tasks.set(first.spawned, second.spawned);
    return null;
  }

  private isReady(task: number): boolean {
    return this.second.isReady(task);
  }

  private haveSameKind(a: Op, b: Op): boolean {
    return a.kind === b.kind;
  }

  /** Compares how the runs end. */
  end(): string | null {
    const [a, b] = [this.first.finish(), this.second.finish()];
    return a?.invariant === b?.invariant ? null : `breaks ${a?.invariant ?? b?.invariant} in one order alone`;
  }

  unlike(how: string): Unlike {
    const { schedule, names } = this;
    const who =
      names[0] === names[1] ? `${names[0]}, after an exchange of alike tasks,` : `${names[0]} and ${names[1]}`;
    const message = `tasks that are declared alike are not: step ${schedule.length - 1}, of ${who}, ${how}`;
    return { finding: { invariant: 'symmetry', message }, schedule };
  }

  private pair(a: Shared, b: Shared): boolean {
    const [to, from] = [this.objects.get(a.serial), this.objectsBack.get(b.serial)];
    if (to === undefined && from === undefined) {
      this.objects.set(a.serial, b.serial);
      this.objectsBack.set(b.serial, a.serial);
      return true;
    }
    return to === b.serial && from === a.serial;
  }

  private isSame(a: unknown, b: unknown): boolean {
    if (a instanceof Shared && b instanceof Shared) return this.pair(a, b);
    return Object.is(a, b) || (isObject(a) && isObject(b));
  }
}

function isObject(value: unknown): boolean {
  return (typeof value === 'object' && value !== null) || typeof value === 'function';
}
