/**
 * `barter/explore`: runs a program of tasks in every order that matters, and shows the shortest one that breaks it
 * (docs/exploring-your-own-code.md).
 *
 * @module barter/explore
 */
export { UnknownNameError } from '../explore/catalogue.ts';
export {
  type ExploreOptions,
  type ExploreProgress,
  type ExploreResult,
  exploreProgram,
  type FoundBug,
} from '../explore/explore.ts';
export type { ResumeFile } from '../explore/parallel/resume.ts';
export type { ThreadProgress } from '../explore/parallel/worker-pool.ts';
export type { Replayed, ReplayFile } from '../explore/replay.ts';
export type { Algorithm } from '../explore/spec.ts';
export type { Finding } from '../explore/world/finding.ts';
export type { CheckPart, Glance, Program, Stage } from '../explore/world/program.ts';
export {
  type ShownBlock,
  type ShownEvent,
  type ShownHistory,
  type ShownRun,
  type ShownStep,
  show,
} from '../explore/world/schedule.ts';
export { htmlTimeline } from '../report/html.ts';
export { type TextOptions, textTimeline } from '../report/timeline.ts';
export { type ListedScenario, listScenarios } from '../verify/catalogue.ts';
export { explore, replay, replayFileOf } from '../verify/explore.ts';
