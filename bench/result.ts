/** What every benchmark returns, and what `barter bench` prints. */

/**
 * One figure. `ratio` says how many times better than the reference it is, and `bar` is the least ratio that is good. For a
 * cost, `ratio` says how many times the reference it takes, and `most` is the largest ratio that is good.
 */
export interface BenchResult {
  name: string;
  value: number;
  unit: string;
  /** What it is compared with: a name, or a value in the same unit. */
  reference: string | number;
  ratio: number;
  /** 1 where neither it nor `most` is given. */
  bar?: number;
  most?: number;
  /** What a benchmark says beside: the reference's own value, percentiles. */
  [detail: string]: string | number | undefined;
}

/** Whether a figure is worse than its bar. */
export function missesBar({ ratio, bar = 1, most }: BenchResult): boolean {
  return most === undefined ? ratio < bar : ratio > most;
}
