/** A shared variable for flat programs, which yield its operations themselves, without `yield*`. */
import { action, Op, OpKind } from '../../task/op.ts';
import { Shared } from '../../task/shared.ts';

export class Var extends Shared {
  value: number;
  /** Reads the value; the `yield` returns it. */
  readonly get: Op<number>;

  constructor(label: string, value = 0) {
    super(label);
    this.value = value;
    this.get = new Op(GET, this);
  }

  set(value: number): Op<void> {
    return new Op<void>(SET, this, value);
  }

  /** Adds in one step. */
  add(value: number): Op<void> {
    return new Op<void>(ADD, this, value);
  }

  /** Stores `next` if the value is `expected`; returns whether it did. A failure counts as a read. */
  compareExchange(expected: number, next: number): Op<boolean> {
    return new Op<boolean>(COMPARE_EXCHANGE, this, { expected, next });
  }

  /** Waits until the variable has the value. */
  until(value: number): Op<void> {
    return new Op<void>(UNTIL, this, value);
  }

  override describe(): string {
    return String(this.value);
  }

  override snapshot(): unknown {
    return this.value;
  }

  override restore(snapshot: unknown): void {
    this.value = snapshot as number;
  }
}

const GET = action<Var, unknown, number>(OpKind.READ, (variable) => variable.value);

const SET = action<Var, number, void>(OpKind.WRITE, (variable, value) => {
  variable.value = value;
});

const ADD = action<Var, number, void>(OpKind.UPDATE, (variable, value) => {
  variable.value += value;
});

const COMPARE_EXCHANGE = action<Var, { expected: number; next: number }, boolean>(
  OpKind.UPDATE,
  (variable, { expected, next }, _, op) => {
    op.changed = variable.value === expected;
    if (op.changed) variable.value = next;
    return op.changed;
  },
);

const UNTIL = action<Var, number, void>(
  OpKind.WAIT,
  () => {},
  (variable, value) => variable.value === value,
);

/** A task of a flat program: `yield` returns untyped results. */
export type Flat = Generator<Op, void, never>;
