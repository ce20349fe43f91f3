/** A shared variable for programs that are written flat: its operations are yielded themselves, without `yield*`. */
import { Op, OpKind, Shared } from '../../task/op.ts';

class Get extends Op<number> {
  perform(): number {
    return (this.object as Var).value;
  }
}

class Put extends Op<void> {
  private readonly value: number;

  constructor(object: Var, value: number) {
    super(OpKind.WRITE, object);
    this.value = value;
  }

  perform(): void {
    (this.object as Var).value = this.value;
  }
}

class Add extends Op<void> {
  private readonly value: number;

  constructor(object: Var, value: number) {
    super(OpKind.UPDATE, object);
    this.value = value;
  }

  perform(): void {
    (this.object as Var).value += this.value;
  }
}

class CompareExchange extends Op<boolean> {
  private readonly expected: number;
  private readonly next: number;

  constructor(object: Var, expected: number, next: number) {
    super(OpKind.UPDATE, object);
    this.expected = expected;
    this.next = next;
  }

  perform(): boolean {
    const variable = this.object as Var;
    this.changed = variable.value === this.expected;
    if (this.changed) variable.value = this.next;
    return this.changed;
  }
}

class Until extends Op<void> {
  private readonly value: number;

  constructor(object: Var, value: number) {
    super(OpKind.WAIT, object);
    this.value = value;
  }

  override ready(): boolean {
    return (this.object as Var).value === this.value;
  }

  perform(): void {}
}

export class Var extends Shared {
  value: number;
  /** Reads; the value of the `yield`. */
  readonly get: Op<number> = new Get(OpKind.READ, this);

  constructor(label: string, value = 0) {
    super(label);
    this.value = value;
  }

  set(value: number): Op<void> {
    return new Put(this, value);
  }

  /** Adds in one step. */
  add(value: number): Op<void> {
    return new Add(this, value);
  }

  /** Stores `next` where the value is `expected`; returns whether it did. A failure is a read. */
  compareExchange(expected: number, next: number): Op<boolean> {
    return new CompareExchange(this, expected, next);
  }

  /** Waits until the variable has the value. */
  until(value: number): Op<void> {
    return new Until(this, value);
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

/** Tasks of programs written flat: results of yields come back untyped. */
export type Flat = Generator<Op, void, never>;
