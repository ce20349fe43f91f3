/** A broken rule that an execution found. */

/** A rule that does not hold. */
export interface Finding {
  /** I1 to I10 of docs/invariants.md, `race` for a data race, or `error` for a task that threw. */
  invariant: string;
  /** One sentence that says what is wrong. */
  message: string;
  /** The objects that the finding is about, if their history tells more (`History`). */
  subjects?: readonly object[];
  /** The steps at which it shows, if not the last one. */
  steps?: readonly number[];
}

/** Learns where objects are made and freed. The code that shows a run passes one in. */
export interface History {
  note(subject: object, what: string): void;
}
