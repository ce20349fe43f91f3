/** What is searched and how, as plain data: threads and files start from it. */
import { DporSearch } from './dpor.ts';
import { applyMutant, findMutant } from './mutants/index.ts';
import type { Program } from './program.ts';
import { SamplingSearch } from './sampling.ts';
import type { Search } from './search.ts';
import { StatefulSearch } from './stateful.ts';
import { DfsSearch } from './walk.ts';

export const ALGORITHMS = ['optimal', 'source', 'dfs', 'stateful', 'pct', 'pos', 'random'] as const;
export type Algorithm = (typeof ALGORITHMS)[number];

export interface SearchSpec {
  scenario: string;
  algorithm: Algorithm;
  mutant: string | null;
  /** Only orders with at most so many preemptions, depth first; null for all. */
  bound: number | null;
  seed: number;
  /** How many runs a sampling search draws. */
  samples: number;
}

export function makeSearch(program: Program, { algorithm, bound, seed, samples }: SearchSpec): Search {
  if (algorithm === 'pct' || algorithm === 'pos' || algorithm === 'random') {
    return new SamplingSearch(program, algorithm, seed, samples);
  }
  if (algorithm === 'stateful') return new StatefulSearch(program);
  if (bound !== null) return new DfsSearch(program, bound);
  return algorithm === 'dfs' ? new DfsSearch(program) : new DporSearch(program, algorithm === 'optimal');
}

/** Puts the mutant in, if there is one; returns how it is taken out again. */
export function applyMutantOf({ mutant }: { mutant: string | null }): () => void {
  return mutant === null ? () => {} : applyMutant(findMutant(mutant));
}
