/** The verdicts on a rule, and the ways in which a rule's check reaches one. */

export const HOLDS = 'holds';
export const BROKEN = 'broken';
/** The server's process ended by a signal or with an error. */
export const CRASHES = 'crashes';
/** An answer that the protocol demands did not come in time. */
export const HANGS = 'hangs';
/** The device lacks what the rule speaks of, or nothing drives it. */
export const NOT_APPLICABLE = 'not-applicable';
/** The protocol's text allows more than one answer, or does not say; the result tells the answer that came. */
const UNCLEAR = 'unclear';

/** Best first. The verdict on a rule that was tried on several devices is the one that is furthest down. */
export const VERDICTS = [NOT_APPLICABLE, HOLDS, UNCLEAR, BROKEN, HANGS, CRASHES] as const;
export type Verdict = (typeof VERDICTS)[number];

/** Whether a maintainer has something to repair. */
export function isFault(verdict: Verdict): boolean {
  return verdict === BROKEN || verdict === HANGS || verdict === CRASHES;
}

export function worstOf(verdicts: readonly Verdict[]): Verdict {
  return VERDICTS[Math.max(...verdicts.map((verdict) => VERDICTS.indexOf(verdict)))];
}

/** Ends the check of a rule. A check that returns without one holds. */
export class Outcome extends Error {
  readonly verdict: Verdict;

  constructor(verdict: Verdict, text: string) {
    super(text);
    this.name = 'Outcome';
    this.verdict = verdict;
  }
}

/** The server takes no connection, or ends it before VERSION is answered. */
export class NoServiceOutcome extends Outcome {}

export function broken(text: string): never {
  throw new Outcome(BROKEN, text);
}

export function notApplicable(why: string): never {
  throw new Outcome(NOT_APPLICABLE, why);
}

/** `saw` tells the server's answer. */
export function unclear(saw: string): never {
  throw new Outcome(UNCLEAR, saw);
}

export function demand(condition: boolean, otherwise: string): asserts condition {
  if (!condition) broken(otherwise);
}

export function needs(condition: boolean, why: string): asserts condition {
  if (!condition) notApplicable(why);
}
