/** Finds the pairs of steps of a run that could have come in the other order. */
import { type Op, OpKind } from '../../task/op.ts';
import { TaskHandle } from '../../task/runner.ts';
import { Access, accessAtMost, isAcquire, rules, type Trace } from '../world/trace.ts';
import type { World } from '../world/world.ts';
import type { Planned } from './wakeup.ts';

/**
 * Called for each pair: `earlier` in the run, and the step (its index, or -1 for one that never came) that overtakes.
 */
export type OnRace = (earlier: number, later: number, step: Planned) => void;

export class Races {
  private readonly trace: Trace;
  private readonly clock = new Int32Array(64);
  /** The one that is looked at; whoever keeps it makes a copy. */
  private readonly step = { task: 0, object: 0, access: 0, peer: -1 };

  constructor(trace: Trace) {
    this.trace = trace;
  }

  /** Races of the steps from `from` on, and of the steps that unfinished tasks wait to take. */
  find(world: World, from: number, onRace: OnRace): void {
    const { trace, step } = this;
    for (let j = Math.max(from, 1); j < trace.length; j++) {
      const kind = trace.kind[j];
      if (kind === OpKind.SPAWN) continue;
      step.task = trace.task[j];
      step.object = trace.object[j];
      step.access = Math.max(trace.access[j], accessAtMost(kind));
      step.peer = trace.peer[j];
      trace.clockOfTask(step.task, j, this.clock);
      if (kind === OpKind.WAIT) this.ofWait(trace.overtakes[j], j, step, onRace);
      else if (kind === OpKind.LOCK || kind === OpKind.READ_LOCK) {
        this.ofLock(kind, trace.beforeOnObject(j), j, step, onRace);
      } else this.ofAccess(trace.beforeOnObject(j), trace.access[j], j, step, onRace);
    }
    for (const task of world.unfinished()) this.ofPending(world, task, world.pending[task]!, onRace);
  }

  /** A task that waits for ever may have had its chance earlier. */
  private ofPending(world: World, task: number, op: Op, onRace: OnRace): void {
    const trace = this.trace;
    if (op.object instanceof TaskHandle || op.ready(world.handles[task])) return;
    const object = trace.slotOf(op.object.serial);
    const step: Planned = { task, object, access: accessAtMost(op.kind), peer: -1 };
    trace.clockOfTask(task, trace.length, this.clock);
    if (op.kind === OpKind.WAIT) this.ofWait(trace.overtaken(world, task, op, object), -1, step, onRace);
    else this.ofLock(op.kind, trace.last(object), -1, step, onRace);
  }

  private ofAccess(start: number, access: number, j: number, step: Planned, onRace: OnRace): void {
    const { trace, clock } = this;
    for (let i = start; i >= 0; i = trace.beforeOnObject(i)) {
      if (!rules.dependent(trace.access[i], access)) continue;
      if (clock[trace.task[i]] <= i) {
        onRace(i, j, step);
        trace.join(clock, i);
      }
      if (trace.access[i] === Access.WRITE) return;
    }
  }

  /** A lock races with earlier acquires only: before an unlock it could not have been taken. */
  private ofLock(kind: number, start: number, j: number, step: Planned, onRace: OnRace): void {
    const { trace, clock } = this;
    for (let i = start; i >= 0; i = trace.beforeOnObject(i)) {
      if (!isAcquire(trace.kind[i]) || trace.access[i] === Access.READ) continue;
      const isWrite = trace.access[i] === Access.WRITE;
      if (kind === OpKind.READ_LOCK && !isWrite) continue;
      if (clock[trace.task[i]] <= i && this.isFree(kind, i, j, step.object)) onRace(i, j, step);
      if (isWrite) return;
    }
  }

  /** Whether the lock could be had with step `i`, and all that comes after it by necessity, left out. */
  private isFree(kind: number, i: number, j: number, object: number): boolean {
    const { trace } = this;
    let readers = 0;
    let writers = 0;
    for (let k = trace.last(object); k >= 0; k = trace.beforeOnObject(k)) {
      if (k === j || (k >= i && trace.happensBefore(i, k)) || trace.access[k] === Access.READ) continue;
      const change = isAcquire(trace.kind[k]) ? 1 : -1;
      if (trace.access[k] === Access.SHARE) readers += change;
      else writers += change;
    }
    return writers === 0 && (kind === OpKind.READ_LOCK || readers === 0);
  }

  private ofWait(overtakes: number[] | null, j: number, step: Planned, onRace: OnRace): void {
    if (overtakes === null) return;
    for (const i of overtakes) if (this.clock[this.trace.task[i]] <= i) onRace(i, j, step);
  }
}
