/**
 * The steps of one run as typed arrays, each with a vector clock of the earlier steps that it must follow. A clock
 * entry is the index of that task's latest such step, plus one.
 */
import type { Op } from '../../task/op.ts';
import { OP_KIND_NAMES, OpKind } from '../../task/op.ts';
import { TaskHandle } from '../../task/task-handle.ts';
import { inWords } from '../../task/words.ts';
import { Access, accessTaken, type PlannedStep, rules } from './access.ts';
import type { Execution } from './execution.ts';

const NONE: readonly number[] = [];
const STRIDE = 64;
/** Objects with serial numbers below this use them as slots. */
const DIRECT_SLOTS = 4096;

export class StepLog {
  length = 0;
  task = new Int32Array(256);
  object = new Int32Array(256);
  access = new Uint8Array(256);
  kind = new Uint8Array(256);
  /** The task that the step started or joined, or -1. */
  peer = new Int32Array(256);
  /** The invariants that look at something that the step changed, one bit each. */
  seenBy = new Int32Array(256);
  clock = new Int32Array(256 * STRIDE);
  /** The object's state before the step, if guards look at it. */
  readonly before: unknown[] = [];
  /** The result of each step, and the serial number of its object: the same in every run. */
  private readonly results: unknown[] = [];
  private readonly objectSerials: number[] = [];
  /** For guarded waits: the earlier writes that it could have preceded. Null for all others. */
  readonly overtakes: (number[] | null)[] = [];
  /** How many tasks there are; clocks are valid up to here. */
  width = 0;
  private previousOnObject = new Int32Array(256);
  private previousOfTask = new Int32Array(256);
  private lastOnObject = new Int32Array(256).fill(-1);
  private readonly lastOfTask = new Int32Array(STRIDE).fill(-1);
  private readonly lastSeenBy = new Int32Array(32).fill(-1);
  /** For each step that invariants see: the last step before it that each of them saw. */
  private readonly previousSeenBy: number[][] = [];
  private lastOfAll = -1;
  /** The last earlier step that touches ALL, or -1. */
  private previousOfAll = new Int32Array(256);
  /** For steps that evaluate a condition: whether it did not hold, so that the task sleeps until a wake-up. */
  private readonly sleeps: boolean[] = [];
  /** The alike task that each step let go, or -1: the step comes before all steps of that task. */
  private readonly released: number[] = [];
  /** The step that started each task, or let it go; -1 for those that could go from the start. */
  private readonly spawnOf = new Int32Array(STRIDE).fill(-1);
  private readonly slots = new Map<number, number>();
  private readonly serials: number[] = [];

  /** The number of an object: the same in every run. */
  slotOf(serial: number): number {
    let slot = serial;
    if (serial >= DIRECT_SLOTS) {
      const known = this.slots.get(serial);
      slot = known ?? DIRECT_SLOTS + this.serials.length;
      if (known === undefined) {
        this.slots.set(serial, slot);
        this.serials.push(serial);
      }
    }
    if (slot >= this.lastOnObject.length) this.growObjects(slot);
    return slot;
  }

  /** The serial number of a slot's object. */
  serialOf(slot: number): number {
    return slot < DIRECT_SLOTS ? slot : this.serials[slot - DIRECT_SLOTS];
  }

  /** The last step on an object, or -1; `before` gives the one before a step. */
  last(object: number): number {
    return this.lastOnObject[object];
  }

  beforeOnObject(index: number): number {
    return this.previousOnObject[index];
  }

  /** The latest steps on other objects that this one must follow, latest first. */
  beforeElsewhere(index: number): readonly number[] {
    const all = this.previousOfAll[index];
    if (this.seenBy[index] === 0) return all < 0 ? NONE : [all];
    return [...new Set([all, ...this.previousSeenBy[index]])].filter((i) => i >= 0).sort((a, b) => b - a);
  }

  /** For a step that evaluates a condition: the wake-up that made its task look again; -1 if it had not slept. */
  wakeBefore(index: number): number {
    const own = this.previousOfTask[index];
    if (own < 0 || !this.sleeps[own] || this.object[own] !== this.object[index]) return -1;
    let wake = -1;
    for (let i = this.previousOnObject[index]; i > own; i = this.previousOnObject[i]) {
      if (this.access[i] === Access.WRITE) wake = i;
    }
    return wake;
  }

  /** The step of the same task before a step, or -1. */
  ownPrevious(index: number): number {
    return this.previousOfTask[index];
  }

  /** Takes the pending step of `task` in `execution` and records it. */
  take(execution: Execution, task: number): void {
    const index = this.length;
    if (index >= this.task.length) this.growSteps();
    const op = execution.pending[task]!;
    const slot = this.slotOf(op.object.serial);
    this.overtakes[index] = op.kind === OpKind.WAIT ? this.overtaken(task, op, slot) : null;
    this.before[index] = op.object.snapshot();
    execution.step(task);
    this.task[index] = task;
    this.object[index] = slot;
    this.kind[index] = op.kind;
    this.access[index] = accessTaken(op);
    this.peer[index] = execution.spawned;
    this.seenBy[index] = execution.seenBy;
    if (op.kind === OpKind.WAIT && op.object instanceof TaskHandle) {
      this.peer[index] = execution.handles.indexOf(op.object);
    }
    this.results[index] = execution.result;
    this.objectSerials[index] = op.object.serial;
    this.sleeps[index] = op.kind === OpKind.EVALUATE && execution.result === false;
    this.link(index, task, slot);
    if (execution.spawned >= 0) {
      this.spawnOf[execution.spawned] = index;
      if (execution.spawned >= this.width) this.width = execution.spawned + 1;
    }
    this.released[index] = execution.released;
    if (execution.released >= 0) this.spawnOf[execution.released] = index;
  }

  /**
   * Takes a step again that was recorded at `index`. Returns how it differs from the first time, or null: the same
   * steps before it must lead to the same step.
   */
  retake(execution: Execution, task: number, index: number): string | null {
    const op = execution.pending[task];
    if (op == null || !execution.isReady(task)) return 'could be taken in one run, and not in another';
    if (op.kind !== this.kind[index] || op.object.serial !== this.objectSerials[index]) {
      return `was ${OP_KIND_NAMES[this.kind[index]]} in one run, and ${op} in another`;
    }
    const before = op.object.snapshot();
    if (differ(before, this.before[index]))
      return `(${op}) found ${inWords(this.before[index])} in one run, and ${inWords(before)} in another`;
    execution.step(task);
    const { result } = execution;
    if (differ(result, this.results[index]))
      return `(${op}) gave ${inWords(this.results[index])} in one run, and ${inWords(result)} in another`;
    return null;
  }

  /** A recorded step in the form of one that is planned again. */
  planned(index: number): PlannedStep {
    return {
      task: this.task[index],
      object: this.object[index],
      access: this.access[index],
      peer: this.peer[index],
      seenBy: this.seenBy[index],
    };
  }

  /** The same for a step that `execution` has just taken and that is not recorded. */
  taken(execution: Execution, task: number, op: Op): PlannedStep {
    const peer = op.object instanceof TaskHandle ? execution.handles.indexOf(op.object) : execution.spawned;
    const { seenBy } = execution;
    return { task, object: this.slotOf(op.object.serial), access: accessTaken(op), peer, seenBy };
  }

  /** Whether step `later` must follow step `earlier`. */
  happensBefore(earlier: number, later: number): boolean {
    return this.clock[later * STRIDE + this.task[earlier]] > earlier;
  }

  /** The last step of a task that has ended. */
  endOf(task: number): number {
    return this.lastOfTask[task] >= 0 ? this.lastOfTask[task] : this.spawnOf[task];
  }

  /** Copies into `into` the steps that the next step of `task` must follow because of the task's own past. */
  clockOfTask(task: number, until: number, into: Int32Array): void {
    let last = until < this.length ? this.previousOfTask[until] : this.lastOfTask[task];
    if (last < 0) last = this.spawnOf[task];
    const base = last * STRIDE;
    for (let t = 0; t < this.width; t++) into[t] = last < 0 ? 0 : this.clock[base + t];
  }

  /** Adds step `index` and everything that it must follow. */
  join(into: Int32Array, index: number): void {
    const base = index * STRIDE;
    for (let t = 0; t < this.width; t++) {
      const value = this.clock[base + t];
      if (value > into[t]) into[t] = value;
    }
  }

  /** Forgets the steps from `length` on. */
  truncate(length: number): void {
    for (let i = this.length - 1; i >= length; i--) {
      this.lastOnObject[this.object[i]] = this.previousOnObject[i];
      this.lastOfTask[this.task[i]] = this.previousOfTask[i];
      if (this.kind[i] === OpKind.SPAWN && this.peer[i] >= 0) this.spawnOf[this.peer[i]] = -1;
      if (this.released[i] >= 0) this.spawnOf[this.released[i]] = -1;
      if (this.seenBy[i] !== 0) this.unsee(i);
      this.lastOfAll = this.previousOfAll[i];
    }
    this.length = length;
  }

  /** The writes since which a wait's guard has held: the wait could come before each of them. */
  overtaken(task: number, op: Op, slot: number): number[] | null {
    if (op.object instanceof TaskHandle) return null;
    const found: number[] = [];
    const now = op.object.snapshot();
    for (let i = this.lastOnObject[slot]; i >= 0; i = this.previousOnObject[i]) {
      if (this.access[i] !== Access.WRITE || this.task[i] === task) continue;
      if (now !== undefined) {
        op.object.restore(this.before[i]);
        const held = op.ready();
        op.object.restore(now);
        if (!held) continue;
      }
      found.push(i);
    }
    return found.length > 0 ? found : null;
  }

  private link(index: number, task: number, slot: number): void {
    const base = index * STRIDE;
    const clock = this.clock;
    let last = this.lastOfTask[task];
    if (last < 0) last = this.spawnOf[task];
    // Entries beyond the width are never written: they are 0.
    for (let t = 0; t < this.width; t++) clock[base + t] = last < 0 ? 0 : clock[last * STRIDE + t];
    const access = this.access[index];
    for (let i = this.lastOnObject[slot]; i >= 0; i = this.previousOnObject[i]) {
      if (!rules.dependent(this.access[i], access)) continue;
      if (clock[base + this.task[i]] <= i) this.mergeInto(base, i);
      // Everything before this write precedes it.
      if (this.access[i] >= Access.WRITE) break;
    }
    if (this.kind[index] === OpKind.WAIT && this.peer[index] >= 0) {
      const end = this.lastOfTask[this.peer[index]];
      if (end >= 0) this.mergeInto(base, end);
      else if (this.spawnOf[this.peer[index]] >= 0) this.mergeInto(base, this.spawnOf[this.peer[index]]);
    }
    if (this.seenBy[index] !== 0) this.see(index, base);
    this.afterAll(index, access, base);
    clock[base + task] = index + 1;
    this.previousOnObject[index] = this.lastOnObject[slot];
    this.previousOfTask[index] = this.lastOfTask[task];
    this.lastOnObject[slot] = index;
    this.lastOfTask[task] = index;
    if (task >= this.width) this.width = task + 1;
    this.length = index + 1;
  }

  /** A step that touches ALL comes after every earlier step, and before every later one. */
  private afterAll(index: number, access: number, base: number): void {
    const last = this.lastOfAll;
    if (last >= 0 && this.clock[base + this.task[last]] <= last) this.mergeInto(base, last);
    this.previousOfAll[index] = last;
    if (access !== Access.ALL) return;
    for (let t = 0; t < this.width; t++) if (this.lastOfTask[t] >= 0) this.mergeInto(base, this.lastOfTask[t]);
    this.lastOfAll = index;
  }

  /** Everything that an invariant saw earlier comes before this step. */
  private see(index: number, base: number): void {
    const previous: number[] = [];
    for (let mask = this.seenBy[index]; mask !== 0; mask &= mask - 1) {
      const bit = 31 - Math.clz32(mask & -mask);
      const last = this.lastSeenBy[bit];
      previous.push(last);
      if (last >= 0 && this.clock[base + this.task[last]] <= last) this.mergeInto(base, last);
      this.lastSeenBy[bit] = index;
    }
    this.previousSeenBy[index] = previous;
  }

  private unsee(index: number): void {
    let at = 0;
    for (let mask = this.seenBy[index]; mask !== 0; mask &= mask - 1) {
      this.lastSeenBy[31 - Math.clz32(mask & -mask)] = this.previousSeenBy[index][at++];
    }
  }

  private mergeInto(base: number, index: number): void {
    const clock = this.clock;
    const other = index * STRIDE;
    for (let t = 0; t < this.width; t++) if (clock[other + t] > clock[base + t]) clock[base + t] = clock[other + t];
  }

  private growSteps(): void {
    const grown = <A extends Int32Array | Uint8Array>(array: A, length: number): A => {
      const next = new (array.constructor as new (length: number) => A)(length);
      next.set(array);
      return next;
    };
    const length = this.task.length * 2;
    this.task = grown(this.task, length);
    this.object = grown(this.object, length);
    this.access = grown(this.access, length);
    this.kind = grown(this.kind, length);
    this.peer = grown(this.peer, length);
    this.seenBy = grown(this.seenBy, length);
    this.previousOfAll = grown(this.previousOfAll, length);
    this.previousOnObject = grown(this.previousOnObject, length);
    this.previousOfTask = grown(this.previousOfTask, length);
    this.clock = grown(this.clock, length * STRIDE);
  }

  private growObjects(slot: number): void {
    const next = new Int32Array(Math.max(slot + 1, this.lastOnObject.length * 2)).fill(-1);
    next.set(this.lastOnObject);
    this.lastOnObject = next;
  }
}

/** Each run makes objects anew, so only other values are compared. */
function differ(a: unknown, b: unknown): boolean {
  return !Object.is(a, b) && !(isObject(a) && isObject(b));
}

function isObject(value: unknown): boolean {
  return (typeof value === 'object' && value !== null) || typeof value === 'function';
}
