/** The named objects that a random program has made so far. */
export class MadeNames {
  readonly fds: string[] = [];
  readonly syncs: string[] = [];
  readonly importers: string[] = [];
  readonly mappings: string[] = [];
  readonly fences: string[] = [];
  readonly maps: string[] = [];
}

export function pick<T>(list: readonly T[], number: number): T | null {
  return list.length === 0 ? null : list[number % list.length];
}
