/** The layout of the page of a run: lanes for tasks, tracks for the state of objects, rows for steps. */
import type { ShownRun, ShownStep } from '../explore/world/schedule.ts';

export const ROW_HEIGHT = 40;
export const BOX_HEIGHT = 32;
const HEADING_HEIGHT = 18;
/** Room for the numbers of the steps. */
export const GUTTER = 46;
/** Room for the tasks' names, which do not scroll. */
export const HEAD = 8;
/** Few tasks have wide lanes, so that names fit. */
const LANE_WIDTHS = [0, 330, 286, 250];
const NARROWEST_LANE = 220;
const TRACK_WIDTH = 98;
const FEWEST_TRACKS = 4;
/** The width that fits into a window of 1280 pixels. */
const PAGE_WIDTH = 1232;
/** Room between a lane's edge and its box, for the bars of held locks. */
const LOCK_ROOM = 34;

/** An object whose state is drawn over time. */
export interface Track {
  id: number;
  label: string;
  /** The steps that touched it. Before the first one, its state is the state that this step found. */
  steps: ShownStep[];
}

export interface Layout {
  laneWidth: number;
  boxWidth: number;
  tracks: Track[];
  tracksAt: number;
  width: number;
  height: number;
  /** The middle of each row. It has one more entry than steps, for the row below them. */
  middles: number[];
  /** The places where a task begins a new activity. */
  headings: { task: string; text: string; bottom: number }[];
}

export function layoutOf(run: ShownRun): Layout {
  const laneWidth = LANE_WIDTHS[run.tasks.length] ?? NARROWEST_LANE;
  const tracksAt = GUTTER + run.tasks.length * laneWidth + 12;
  const tracks = tracksOf(run, Math.max(FEWEST_TRACKS, Math.floor((PAGE_WIDTH - tracksAt) / TRACK_WIDTH)));
  const { middles, headings, bottom } = rowsOf(run);
  const lastRow = run.blocked.length > 0 || brokeAtTheEnd(run) ? ROW_HEIGHT : 0;
  return {
    middles,
    headings,
    laneWidth,
    boxWidth: laneWidth - LOCK_ROOM - 14,
    tracks,
    tracksAt,
    width: tracksAt + tracks.length * TRACK_WIDTH + 4,
    height: bottom + lastRow + 12,
  };
}

/** Whether the finding concerns the final state: no step shows it, and no task is stuck. */
export function brokeAtTheEnd(run: ShownRun): boolean {
  return run.finding !== null && run.failsAt.length === 0 && run.blocked.length === 0;
}

/** The left edge of a task's boxes. */
export function boxLeft(run: ShownRun, layout: Layout, task: string): number {
  return GUTTER + run.tasks.indexOf(task) * layout.laneWidth + LOCK_ROOM;
}

function rowsOf(run: ShownRun): { middles: number[]; headings: Layout['headings']; bottom: number } {
  const middles: number[] = [];
  const headings: Layout['headings'] = [];
  const now = new Map<string, string>();
  let bottom = HEAD;
  for (const { task, activity } of run.steps) {
    if (activity !== (now.get(task) ?? '')) {
      bottom += HEADING_HEIGHT;
      headings.push({ task, text: activity, bottom });
    }
    now.set(task, activity);
    middles.push(bottom + ROW_HEIGHT / 2);
    bottom += ROW_HEIGHT;
  }
  middles.push(bottom + ROW_HEIGHT / 2);
  return { middles, headings, bottom };
}

export function trackLeft(layout: Layout, position: number): number {
  return layout.tracksAt + position * TRACK_WIDTH;
}

export const TRACK_BAR_WIDTH = TRACK_WIDTH - 10;

/** The label without the structure that the field belongs to, which takes most of the room. */
export function shortName(label: string): string {
  return label.replace(/^vfio_pci_(core_device|dma_buf)\./, '').replace(/^vfio_device_set\./, 'set ');
}

/** The field's name alone, for the narrow heads of tracks. */
export function fieldName(label: string): string {
  return label.startsWith('vfio_') ? label.slice(label.indexOf('.') + 1) : label;
}

/** The objects that explain the run: those that change. Objects of the failing steps come first, then shared ones. */
function tracksOf(run: ShownRun, most: number): Track[] {
  const byId = new Map<number, Track>();
  for (const step of run.steps) {
    const track = byId.get(step.objectId) ?? { id: step.objectId, label: step.object, steps: [] };
    track.steps.push(step);
    byId.set(step.objectId, track);
  }
  const failing = new Set(run.failsAt.map((index) => run.steps[index]?.objectId));
  const rank = (track: Track): number => {
    const tasks = new Set(track.steps.map((step) => step.task)).size;
    const story = isFlag(track) ? 200 : isCounter(track) ? -150 : 0;
    return (failing.has(track.id) ? 1000 : 0) + (tasks > 1 ? 100 : 0) + story + Math.min(track.steps.length, 50);
  };
  return [...byId.values()]
    .filter((track) => track.steps.some((step) => step.before !== step.state))
    .sort((a, b) => rank(b) - rank(a))
    .slice(0, most)
    .sort((a, b) => a.steps[0].index - b.steps[0].index)
    .map((track, i, all) => ({ ...track, label: tellApart(track, i, all) }));
}

/** Numbers objects of the same name. */
function tellApart({ label }: Track, position: number, all: readonly Track[]): string {
  const same = all.filter((other) => other.label === label);
  return same.length === 1 ? label : `${label} ${all.slice(0, position + 1).filter((o) => o.label === label).length}`;
}

function isFlag(track: Track): boolean {
  return track.steps.every(({ state }) => state === 'true' || state === 'false');
}

/** Whether an object only counts changes. */
function isCounter(track: Track): boolean {
  return track.steps.every(({ before, state }) => Number(state) >= Number(before)) && track.steps.length > 1;
}
