/** The figures that every benchmark returns and `barter bench` prints. */

/**
 * One figure. `ratio` says how many times better than the reference it is, and `bar` is the least good ratio. For a
 * cost, `ratio` says how many times the reference it takes, and `most` is the largest good ratio.
 */
export interface BenchResult {
  name: string;
  value: number;
  unit: string;
  /** The reference: a name, or a value in the same unit. */
  reference: string | number;
  ratio: number;
  /** Is 1 by default if `most` is not given. */
  bar?: number;
  most?: number;
  /** More details of a benchmark: the reference's own value, percentiles. */
  [detail: string]: string | number | undefined;
}

/** Whether a figure is worse than its bar. */
export function missesBar({ ratio, bar = 1, most }: BenchResult): boolean {
  return most === undefined ? ratio < bar : ratio > most;
}
