/** What an execution came to, where something does not hold. */

/** Something that must hold does not. */
export interface Finding {
  /** I1 to I10 of docs/invariants.md, `race` for a data race, or `error` for a task that threw. */
  invariant: string;
  message: string;
  /** The objects that the finding is about, where their history tells more (`History`). */
  subjects?: readonly object[];
  /** The steps at which it shows, where it is not the last one. */
  steps?: readonly number[];
}

/** Learns where things are made and freed. Whoever shows a run passes one in. */
export interface History {
  note(subject: object, what: string): void;
}
