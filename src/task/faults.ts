/**
 * Points at which an allocation of the kernel, or a copy from the user, may fail. In production none fails. A test
 * makes one after the other fail, as Linux's fault injection does (fail-nth).
 */
import { Errno } from '../abi/errno.ts';

/** How many points are left until one fails; 0 if none is to fail. */
let left = 0;
let failedAt: string | null = null;

/** An allocation: ENOMEM if it is to fail. `what` is the object, as the kernel names it. */
export function mayLackMemory(what: string): void {
  if (left > 0) pass('ENOMEM', what);
}

/** A copy from or to the user's memory: EFAULT if it is to fail. */
export function mayFault(what: string): void {
  if (left > 0) pass('EFAULT', what);
}

function pass(code: 'ENOMEM' | 'EFAULT', what: string): void {
  left -= 1;
  if (left > 0) return;
  failedAt = what;
  throw new Errno(code, `fault injection: ${what}`);
}

/** Makes the `nth` point from now on fail, counted from 1. Returns a function that stops it and says which one did. */
export function failNth(nth: number): () => string | null {
  left = nth;
  failedAt = null;
  return () => {
    left = 0;
    return failedAt;
  };
}
