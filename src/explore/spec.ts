/** The program and the way to search it, as plain data for threads and files. */

import { DporSearch } from './search/dpor.ts';
import { SAMPLING_NAMES, type SamplingName, SamplingSearch } from './search/sampling.ts';
import type { Search } from './search/search.ts';
import { StatefulSearch } from './search/stateful.ts';
import { DfsSearch } from './search/walk.ts';
import type { Program } from './world/program.ts';

export const ALGORITHMS = ['optimal', 'source', 'dfs', 'stateful', ...SAMPLING_NAMES] as const;
/** A way to search: `optimal` and `source` leave out equivalent orders, others do not. */
export type Algorithm = (typeof ALGORITHMS)[number];

/** Whether the algorithm draws orders at random, and so never sees all of them. */
export function isSampling(algorithm: Algorithm): algorithm is SamplingName {
  return (SAMPLING_NAMES as readonly Algorithm[]).includes(algorithm);
}

export interface SearchSpec {
  scenario: string;
  algorithm: Algorithm;
  mutant: string | null;
  /** Searches only orders with at most this many preemptions, depth first; null for all orders. */
  bound: number | null;
  seed: number;
  /** How many runs a sampling search draws. */
  samples: number;
  /** A run with more steps counts as endless; `MAX_STEPS` by default. */
  maxSteps?: number;
  /** Whether to take every order of alike tasks. */
  everyOrder?: boolean;
}

export function makeSearch(program: Program, spec: SearchSpec): Search {
  const search = searchOf(program, spec);
  if (spec.maxSteps !== undefined) search.maxSteps = spec.maxSteps;
  if (spec.everyOrder === true) search.oneOfAlike = false;
  return search;
}

function searchOf(program: Program, { algorithm, bound, seed, samples }: SearchSpec): Search {
  if (isSampling(algorithm)) return new SamplingSearch(program, algorithm, seed, samples);
  if (algorithm === 'stateful') return new StatefulSearch(program);
  if (bound !== null) return new DfsSearch(program, bound);
  return algorithm === 'dfs' ? new DfsSearch(program) : new DporSearch(program, algorithm === 'optimal');
}
