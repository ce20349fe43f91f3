import type { ProgramFamily } from '../../explore/world/program.ts';
import { filesystem, indexer, revoke } from './locks.ts';
import { casw, fib, lastwrite, lastzero, nWritersAReader, readers, redundantCo, sigma } from './variables.ts';

export const CLASSICS: readonly ProgramFamily[] = [
  readers,
  lastzero,
  indexer,
  filesystem,
  nWritersAReader,
  redundantCo,
  lastwrite,
  sigma,
  casw,
  fib,
  revoke,
];

/** How many executions an optimal reduction runs, by name and size. */
export const KNOWN_COUNTS: Readonly<Record<string, Readonly<Record<number, number>>>> = {
  readers: { 2: 4, 8: 256, 13: 8192 },
  lastzero: { 1: 2, 2: 5, 3: 12, 4: 28, 5: 64, 10: 3328, 11: 7168 },
  indexer: { 11: 1, 12: 8, 13: 64, 14: 512, 15: 4096 },
  filesystem: { 14: 2, 16: 8, 18: 32, 19: 64 },
  n_writers_a_reader: { 2: 6, 3: 24, 4: 120 },
  redundant_co: { 2: 90, 3: 560, 4: 3150 },
  lastwrite: { 2: 2, 3: 6, 4: 24 },
  sigma: { 2: 3, 3: 15, 4: 105 },
  casw: { 2: 6, 3: 66, 4: 1200 },
  fib: { 2: 140, 3: 1698 },
  revoke: { 1: 3, 2: 24, 3: 408, 4: 12456 },
};
