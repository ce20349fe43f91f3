/**
 * The life of the device models behind a function:
 *
 * bind, then plugged in, then any number of: reset; or quiesce, save or load, resume.
 *
 * | call | caller | state when it returns |
 * |---|---|---|
 * | `add` | a model's `bind`, before the function is plugged in | the model hears of all that follows |
 * | `reset` | every reset of the function, memory_lock held for write where vfio resets it | registers are as at power on |
 * | `quiesce` | a migration or a reset, without memory_lock | no model starts DMA until as many `resume` |
 * | `save`, `load` | a migration, while the models are quiesced | registers are read out, or put back |
 * | `resume` | every caller of `quiesce`, once | models go on after the last of these calls |
 *
 * Models are called in the order in which they were added. A call out of order is a bug of Barter: it throws.
 */
import { Errno } from '../abi/errno.ts';
import { InvariantError } from '../task/lifetime.ts';
import type { Task } from '../task/op.ts';

/** The calls that a device model gets from its function. A reset may come at any time, also during a quiesce. */
export interface FunctionHooks {
  /**
   * Called synchronously on every reset: engines stop, registers go back to their values at power on. Memory behind
   * BARs may keep its bytes.
   */
  onReset?(): void;
  /** After it returns, the device must not start DMA until `resume`. Waits for DMA under way. */
  quiesce?(): Task;
  /** Called after the last caller of `quiesce` is done: the device may start DMA again. */
  resume?(): Task;
  /**
   * The state of the registers behind the BARs, without memory BARs, for another device of the same kind to continue
   * from.
   */
  saveState?(): Uint8Array;
  /** Puts back the result of `saveState`. EINVAL for bytes that are not such a state. */
  loadState?(bytes: Uint8Array): void;
}

export class Lifecycle {
  private readonly name: string;
  private readonly models: FunctionHooks[] = [];
  private isPlugged = false;
  /** How many callers want the models quiesced, and for how many of them they are. */
  private wanted = 0;
  private quiesced = 0;

  constructor(name: string) {
    this.name = name;
  }

  add(hooks: FunctionHooks): void {
    if (this.isPlugged) throw new Error(`${this.name} is plugged in: a model binds to it before that`);
    this.models.push(hooks);
  }

  plug(): void {
    if (this.isPlugged) throw new Error(`${this.name} is plugged in twice`);
    this.isPlugged = true;
  }

  get size(): number {
    return this.models.length;
  }

  /** Whether a model can save and load its registers. */
  get saves(): boolean {
    return this.models.some((model) => model.saveState !== undefined && model.loadState !== undefined);
  }

  reset(): void {
    for (const model of this.models) model.onReset?.();
  }

  /** Waits for the DMA under way: the models, and the owners of the memory that it reaches, end it. */
  *quiesce(): Task {
    this.wanted += 1;
    for (const model of this.models) if (model.quiesce !== undefined) yield* model.quiesce();
    this.quiesced += 1;
  }

  *resume(): Task {
    if (this.quiesced === 0) throw new InvariantError('I10', `${this.name} is resumed more often than quiesced`);
    this.wanted -= 1;
    this.quiesced -= 1;
    if (this.wanted > 0) return;
    for (const model of this.models) if (model.resume !== undefined) yield* model.resume();
  }

  /** The state of each model that has one, by its place in the order of `add`. */
  save(): Map<number, Uint8Array> {
    this.checkQuiesced('saved');
    const states = new Map<number, Uint8Array>();
    for (const [i, model] of this.models.entries()) {
      if (model.saveState !== undefined) states.set(i, model.saveState());
    }
    return states;
  }

  /** EINVAL where a model's state is missing or invalid. */
  load(states: ReadonlyMap<number, Uint8Array>): void {
    this.checkQuiesced('loaded');
    for (const [i, model] of this.models.entries()) {
      if (model.loadState === undefined) continue;
      const state = states.get(i);
      if (state === undefined) throw new Errno('EINVAL', `the state of model ${i} of ${this.name} is missing`);
      model.loadState(state);
    }
  }

  private checkQuiesced(verb: string): void {
    if (this.quiesced === 0) throw new InvariantError('I10', `${this.name} is ${verb} while it runs`);
  }
}
