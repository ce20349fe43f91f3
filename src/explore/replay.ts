/** A failing schedule as a file, and its replay. */

import { applyMutantOf, type Catalogue } from './catalogue.ts';
import type { ExploreResult } from './explore.ts';
import { type ShownRun, show } from './world/schedule.ts';

/** The file that `barter explore` writes when it finds a bug, and that `barter replay` reads. */
export interface ReplayFile {
  /** Marks the file. */
  barter: 'replay';
  /** The program, as `barter explore` takes it. */
  scenario: string;
  /** The mutant that was applied; null without one. */
  mutant: string | null;
  /** The schedule: the number of the task that takes each step. */
  steps: number[];
  /** The hash of the recorded run (`ShownRun.hash`). */
  hash: string;
}

export function replayFileOf(result: ExploreResult, catalogue: Catalogue): ReplayFile | null {
  if (result.bug === null || result.bug.steps.length === 0) return null;
  const { scenario, mutant, bug } = result;
  const { hash } = runOf(scenario, mutant, bug.steps, catalogue);
  return { barter: 'replay', scenario, mutant, steps: bug.steps, hash };
}

/** Runs a schedule of a scenario, with or without a mutant, and records each step. */
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

/** A replayed file. */
export interface Replayed {
  /** The run, step by step. */
  run: ShownRun;
  /** Whether each step and the outcome are those of the file. */
  matches: boolean;
}

/** Replays a file. `matches` says whether each step and the outcome are those of the file. */
export function replay(file: ReplayFile, catalogue: Catalogue): Replayed {
  const run = runOf(file.scenario, file.mutant, file.steps, catalogue);
  return { run, matches: run.hash === file.hash };
}
