/**
 * `barter/explore`: runs a program of tasks in every order that matters, and shows the shortest one that breaks it
 * (docs/exploring-your-own-code.md).
 *
 * @module barter/explore
 */
export { UnknownNameError } from '../explore/catalogue.ts';
export { type ExploreOptions, type ExploreResult, exploreProgram, type FoundBug } from '../explore/explore.ts';
export type { ReplayFile } from '../explore/replay.ts';
export type { Algorithm } from '../explore/spec.ts';
export type { Program, Stage } from '../explore/world/program.ts';
export { type ShownRun, type ShownStep, show } from '../explore/world/schedule.ts';
export { htmlTimeline } from '../report/html.ts';
export { textTimeline } from '../report/timeline.ts';
export { listScenarios } from '../verify/catalogue.ts';
export { explore, replay, replayFileOf } from '../verify/explore.ts';
