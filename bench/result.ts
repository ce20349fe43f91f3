/** What every benchmark returns, and what `barter bench` prints. */

/** One figure. `ratio` says how many times better than the reference it is; the bar is the least ratio that is good. */
export interface BenchResult {
  name: string;
  value: number;
  unit: string;
  /** What it is compared with: a name, or a value in the same unit. */
  reference: string | number;
  ratio: number;
  /** 1 where it is not given. */
  bar?: number;
  /** What a benchmark says beside: the reference's own value, percentiles. */
  [detail: string]: string | number | undefined;
}

export function isBelowBar({ ratio, bar = 1 }: BenchResult): boolean {
  return ratio < bar;
}
