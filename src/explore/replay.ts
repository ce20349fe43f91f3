/** A schedule that broke something, as a file, and the same run again. */
import type { ExploreResult } from './explore.ts';
import { findProgram } from './programs.ts';
import { type ShownRun, show } from './schedule.ts';
import { applyMutantOf } from './spec.ts';

/** What `barter explore` writes when it finds something, and `barter replay` reads. */
export interface ReplayFile {
  barter: 'replay';
  scenario: string;
  mutant: string | null;
  steps: number[];
  /** Of the run that the steps gave (`ShownRun.hash`). */
  hash: string;
}

export function replayFileOf(result: ExploreResult): ReplayFile | null {
  if (result.bug === null || result.bug.steps.length === 0) return null;
  const { scenario, mutant, bug } = result;
  return { barter: 'replay', scenario, mutant, steps: bug.steps, hash: runOf(scenario, mutant, bug.steps).hash };
}

/** Runs a schedule of a scenario, with a mutant or without, and writes down each step. */
export function runOf(scenario: string, mutant: string | null, steps: readonly number[]): ShownRun {
  const undo = applyMutantOf({ mutant });
  try {
    return show(findProgram(scenario), steps);
  } finally {
    undo();
  }
}

/** Runs a replay file again. `matches` says whether each step and the outcome were those of the file. */
export function replay(file: ReplayFile): { run: ShownRun; matches: boolean } {
  const run = runOf(file.scenario, file.mutant, file.steps);
  return { run, matches: run.hash === file.hash };
}
