/** Where a search finds its program and its mutant by name. The engine knows none itself; `verify/catalogue.ts` is ours. */
import type { Program } from './world/program.ts';

/** There is no program, size or mutant of that name; the message lists what there is. */
export class UnknownNameError extends Error {}

export interface Catalogue {
  /** The module that exports this catalogue as `catalogue`: each worker thread imports it. */
  readonly url: string;
  /** Makes the program of a file known to `findProgram`. Leaves other names alone. UnknownNameError. */
  loadPrograms(scenario: string): Promise<void>;
  /** `name` or `name:size`. UnknownNameError. */
  findProgram(scenario: string): Program;
  /** Puts the mutant in; returns how it is taken out again. UnknownNameError. */
  applyMutant(name: string): () => void;
}

/** Puts the mutant in, if there is one; returns how it is taken out again. */
export function applyMutantOf(catalogue: Catalogue, { mutant }: { mutant: string | null }): () => void {
  return mutant === null ? () => {} : catalogue.applyMutant(mutant);
}
