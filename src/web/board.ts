/**
 * What a page shows, by topic: values of which the last one counts, and lists that grow. A new viewer gets all of it,
 * those that are there get the changes.
 */
interface List {
  readonly items: unknown[];
  readonly keep: number;
  /** Items that are no longer kept. */
  forgotten: number;
}

export class Board {
  private readonly values = new Map<string, unknown>();
  private readonly lists = new Map<string, List>();
  private changedValues = new Map<string, unknown>();
  private changedLists = new Map<string, unknown[]>();

  set(topic: string, value: unknown): void {
    this.values.set(topic, value);
    this.changedValues.set(topic, value);
  }

  /** Adds to a list that remembers its last `keep` items for those who come later. */
  add(topic: string, items: readonly unknown[], keep: number): void {
    if (items.length === 0) return;
    const list = this.lists.get(topic) ?? { items: [], keep, forgotten: 0 };
    this.lists.set(topic, list);
    list.items.push(...items);
    const over = list.items.length - keep;
    if (over > 0) {
      list.items.splice(0, over);
      list.forgotten += over;
    }
    const changed = this.changedLists.get(topic) ?? [];
    changed.push(...items);
    // A tick with more items than anybody keeps need not send them all.
    this.changedLists.set(topic, changed.slice(-keep));
  }

  /** The changes since the last call, as an event of the stream; null where there are none. */
  takeChanges(): string | null {
    if (this.changedValues.size + this.changedLists.size === 0) return null;
    const frame = eventOf('update', this.changedValues, this.changedLists);
    this.changedValues = new Map();
    this.changedLists = new Map();
    return frame;
  }

  /** Everything, for a viewer that has nothing, or missed something. */
  whole(): string {
    const lists = new Map([...this.lists].map(([topic, { items }]) => [topic, items]));
    return eventOf('whole', this.values, lists);
  }
}

function eventOf(name: string, values: Map<string, unknown>, lists: Map<string, readonly unknown[]>): string {
  const data = JSON.stringify({ set: Object.fromEntries(values), add: Object.fromEntries(lists) });
  return `event: ${name}\ndata: ${data}\n\n`;
}
