/** Known bugs, put back for the length of one search by replacing methods. */

export interface Mutant {
  /** Starts with the bug's number in docs/mutants.md, if it has one. */
  readonly name: string;
  readonly summary: string;
  /** The invariant that the explorer must report as broken. */
  readonly invariant: string;
  /** A program that shows it. */
  readonly scenario: string;
  /** Puts the bug back; returns a function that removes it again. */
  apply(): () => void;
}

/** Replaces a property of a shared object; returns a function that puts the old value back. */
export function replace<T extends object, K extends keyof T>(owner: T, key: K, value: T[K]): () => void {
  const before = owner[key];
  owner[key] = value;
  return () => {
    owner[key] = before;
  };
}

/** Like `replace`, for a private method of a class. `Inner` declares the private members that the bug uses. */
export function replacePrivate<Inner>(owner: object, key: string, method: (this: Inner, ...args: never[]) => unknown) {
  return replace(owner as Record<string, unknown>, key, method);
}
