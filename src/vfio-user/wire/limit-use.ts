/** How near somebody is to a limit of docs/limits.md. */
export interface LimitUse {
  /** The limit's name in the table. */
  readonly limit: string;
  /** The client, importer or device that it holds for. */
  readonly of: string;
  readonly used: number;
  readonly most: number;
}
