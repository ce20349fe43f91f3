/**
 * The objects that a program makes the same way before each run (`Stage.keep`). They are made once, and their state is
 * put back before each later run. One execution at a time may use a kept world.
 */
import type { Lifetime } from '../../task/lifetime.ts';
import { Snapshot } from './snapshot.ts';

/** One call of `keep`. */
interface Kept {
  readonly value: unknown;
  /** The next serial number after the call. */
  readonly nextSerial: number;
  /** The lifetimes that began in the call and have not ended. */
  readonly born: readonly Lifetime[];
}

export class KeptWorld {
  private readonly calls: Kept[] = [];
  private snapshot: Snapshot | null = null;
  private next = 0;

  /** Must be called before a program is built. Puts everything kept back into its first state. */
  begin(): void {
    this.next = 0;
    this.snapshot?.restore();
  }

  /** The next call, if an earlier run has made it. */
  again(): Kept | null {
    return this.calls[this.next++] ?? null;
  }

  /** Records a call that was made for the first time. `outside` does not belong to the world. */
  add(call: Kept, outside: object): void {
    this.calls.push(call);
    this.snapshot = new Snapshot(
      this.calls.map(({ value }) => value),
      [outside],
    );
  }
}
