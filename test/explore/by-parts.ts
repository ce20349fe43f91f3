/** One search split as several threads would split it: parts are given away at any time, and searched in any order. */
import { followedBy } from '../../src/explore/parallel/search-part.ts';
import { Random } from '../../src/explore/search/random.ts';
import type { Part, PartOutcome, Search } from '../../src/explore/search/search.ts';

/** Data as they arrive in another process. */
export const asSent = <T>(data: T): T => JSON.parse(JSON.stringify(data)) as T;

/** Plays several threads, one after the other, and chooses at random which one is next. */
export class ByParts {
  private readonly random: Random;
  private readonly search: Search;
  private readonly other: Search;
  private readonly parts: Part[] = [];
  private readonly outcomes = new Map<number, PartOutcome>();

  /** `make` makes searches over the same program. `seed` seeds the random choices. */
  constructor(make: () => Search, seed: number) {
    this.random = new Random(seed);
    this.search = make();
    this.other = make();
  }

  run(): Search {
    const { search, random } = this;
    for (;;) {
      if (random.below(3) === 0) this.splitPart();
      if (random.below(2) === 0 && this.parts.length > 0) this.goThroughOne();
      const progress = search.advance(1);
      if (progress === 'waits') this.awaitPart();
      if (search.bug !== null || search.complete || progress === 'done') return search;
    }
  }

  private splitPart(): void {
    const part = this.search.splitPart();
    if (part !== null) this.parts.push(asSent(part));
  }

  /** Searches a part, often not to its end. */
  private goThroughOne(at = this.random.below(this.parts.length)): void {
    const [{ id, state }] = this.parts.splice(at, 1);
    this.other.load(state);
    this.other.advance(1 + this.random.below(4));
    const outcome = asSent(this.other.outcome());
    const before = this.outcomes.get(id);
    const all = before === undefined ? outcome : followedBy(before, outcome);
    this.outcomes.set(id, all);
    if (all.rest !== null && this.random.below(2) === 0) this.parts.push({ id, state: all.rest });
  }

  private awaitPart(): void {
    const { search, parts, outcomes } = this;
    for (let at = 0; at >= 0; ) {
      at = parts.findIndex(({ id }) => id === search.awaited);
      if (at >= 0) this.goThroughOne(at);
    }
    if (this.random.below(8) === 0) search.reclaimPart();
    else search.join(outcomes.get(search.awaited)!);
  }
}
