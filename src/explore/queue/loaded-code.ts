/** The code that a worker of a queue has loaded: users' files, and the mutant of the search that it works on. */
import { applyMutantOf, type Catalogue } from '../catalogue.ts';
import type { Search } from '../search/search.ts';
import { makeSearch, type SearchSpec } from '../spec.ts';
import { programHash } from './code-hash.ts';
import type { QueuedSearch } from './store.ts';

export class LoadedCode {
  private readonly catalogue: Catalogue;
  /** The hash of each user's file when it was loaded. Node keeps the module when the file changes. */
  private readonly hashes = new Map<string, string>();
  private mutant: { name: string | null; undo: () => void } = { name: null, undo: () => {} };

  constructor(catalogue: Catalogue) {
    this.catalogue = catalogue;
  }

  /** Why the program of a search is another one here; null if it is the same. */
  difference({ spec: { scenario }, program }: QueuedSearch): string | null {
    const loaded = this.hashes.get(scenario);
    if ((loaded ?? programHash(scenario)) === program) return null;
    const advice = loaded === undefined ? '' : '; it loaded an earlier one, so start it again';
    return `${scenario} is not the same file there${advice}`;
  }

  /** Loads the program of a search without a `difference`. Throws UnknownNameError. */
  async load({ spec: { scenario }, program }: QueuedSearch): Promise<void> {
    this.hashes.set(scenario, program);
    await this.catalogue.loadPrograms(scenario);
  }

  /** A new search over the loaded program, with its mutant in the code. */
  makeSearch(spec: SearchSpec): Search {
    this.useMutant(spec.mutant);
    return makeSearch(this.catalogue.findProgram(spec.scenario), spec);
  }

  /** Puts a mutant in the code, and takes the one before it out. */
  useMutant(name: string | null): void {
    if (name === this.mutant.name) return;
    this.mutant.undo();
    this.mutant = { name: null, undo: () => {} };
    this.mutant = { name, undo: applyMutantOf(this.catalogue, { mutant: name }) };
  }
}
