/** A schedule that broke something, as a file, and the same run again. */

import { applyMutantOf, type Catalogue } from './catalogue.ts';
import type { ExploreResult } from './explore.ts';
import { type ShownRun, show } from './world/schedule.ts';

/** What `barter explore` writes when it finds something, and `barter replay` reads. */
export interface ReplayFile {
  barter: 'replay';
  scenario: string;
  mutant: string | null;
  steps: number[];
  /** Of the run that the steps gave (`ShownRun.hash`). */
  hash: string;
}

export function replayFileOf(result: ExploreResult, catalogue: Catalogue): ReplayFile | null {
  if (result.bug === null || result.bug.steps.length === 0) return null;
  const { scenario, mutant, bug } = result;
  const { hash } = runOf(scenario, mutant, bug.steps, catalogue);
  return { barter: 'replay', scenario, mutant, steps: bug.steps, hash };
}

/** Runs a schedule of a scenario, with a mutant or without, and writes down each step. */
export function runOf(
  scenario: string,
  mutant: string | null,
  steps: readonly number[],
  catalogue: Catalogue,
): ShownRun {
  const undo = applyMutantOf(catalogue, { mutant });
  try {
    return show(catalogue.findProgram(scenario), steps);
  } finally {
    undo();
  }
}

/** Runs a replay file again. `matches` says whether each step and the outcome were those of the file. */
export function replay(file: ReplayFile, catalogue: Catalogue): { run: ShownRun; matches: boolean } {
  const run = runOf(file.scenario, file.mutant, file.steps, catalogue);
  return { run, matches: run.hash === file.hash };
}
