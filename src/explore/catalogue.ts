/**
 * Where a search finds its program and its mutant by name. The explorer knows none itself; this project's catalogue is
 * `verify/catalogue.ts`.
 */
import type { Program } from './world/program.ts';

/** Thrown for an unknown program, size or mutant. The message lists the known ones. */
export class UnknownNameError extends Error {}

export interface Catalogue {
  /** The module that exports this catalogue as `catalogue`. Each worker thread imports it. */
  readonly url: string;
  /** Loads the program of a file, so that `findProgram` knows it. Ignores other names. Throws UnknownNameError. */
  loadPrograms(scenario: string): Promise<void>;
  /** Takes `name` or `name:size`. Throws UnknownNameError. */
  findProgram(scenario: string): Program;
  /** Puts the mutant in; returns a function that removes it. Throws UnknownNameError. */
  applyMutant(name: string): () => void;
}

/** Puts the mutant in, if there is one; returns a function that removes it. */
export function applyMutantOf(catalogue: Catalogue, { mutant }: { mutant: string | null }): () => void {
  return mutant === null ? () => {} : catalogue.applyMutant(mutant);
}
