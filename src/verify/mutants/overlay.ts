/** Known bugs, put back for the length of one search: replaced methods, and the way back. */

export interface Mutant {
  /** Starts with the bug's number in docs/mutants.md, where it has one. */
  readonly name: string;
  readonly summary: string;
  /** The invariant that it must be seen to break. */
  readonly invariant: string;
  /** A program that shows it. */
  readonly scenario: string;
  /** Puts the bug back; returns how it is taken out again. */
  apply(): () => void;
}

/** Replaces a property of an object that all share, and returns how it is put back. */
export function replace<T extends object, K extends keyof T>(owner: T, key: K, value: T[K]): () => void {
  const before = owner[key];
  owner[key] = value;
  return () => {
    owner[key] = before;
  };
}

/** As `replace`, of a method that is private to its class; `Inner` says what of it the bug needs to see. */
export function replacePrivate<Inner>(owner: object, key: string, method: (this: Inner, ...args: never[]) => unknown) {
  return replace(owner as Record<string, unknown>, key, method);
}
