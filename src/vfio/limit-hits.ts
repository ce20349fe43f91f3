/** Reports each time that a limit of docs/limits.md turns a peer away. A watched server counts the reports. */
import { Errno, type ErrnoName } from '../abi/errno.ts';

type Listener = (limit: string) => void;

let listener: Listener | null = null;

/** Calls `hear` with the limit's name at each hit on this thread. It replaces the listener before it. */
export function onLimitHit(hear: Listener | null): void {
  listener = hear;
}

/** Reports a hit that does not answer with an error of its own. */
export function limitHit(limit: string): void {
  listener?.(limit);
}

/** Reports a hit, and returns the error that answers it. */
export function beyondLimit(limit: string, code: ErrnoName, reason: string): Errno {
  limitHit(limit);
  return new Errno(code, reason);
}
