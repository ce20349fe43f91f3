/** The explorer with this project's own catalogue. The command line, the benchmarks and most tests call it. */
import * as engine from '../explore/explore.ts';
import * as replays from '../explore/replay.ts';
import type { ShownRun } from '../explore/world/schedule.ts';
import { catalogue } from './catalogue.ts';

/** `explore` of the engine, over `catalogue`. */
export function explore(options: engine.ExploreOptions): Promise<engine.ExploreResult> {
  return engine.explore(options, catalogue);
}

/** `runOf` of the engine, over `catalogue`. */
export function runOf(scenario: string, mutant: string | null, steps: readonly number[]): ShownRun {
  return replays.runOf(scenario, mutant, steps, catalogue);
}

/** `replay` of the engine, over `catalogue`. */
export function replay(file: replays.ReplayFile): replays.Replayed {
  return replays.replay(file, catalogue);
}

/** `replayFileOf` of the engine, over `catalogue`. */
export function replayFileOf(result: engine.ExploreResult): replays.ReplayFile | null {
  return replays.replayFileOf(result, catalogue);
}
