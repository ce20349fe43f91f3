/** Puts a search of the explorer on a page: how far it is, and the timeline of its bug. */
import type { ExploreProgress, ExploreResult } from '../explore/explore.ts';
import type { ShownRun } from '../explore/world/schedule.ts';
import { htmlTimeline } from '../report/html.ts';
import { statementOf } from '../report/invariant.ts';
import type { LivePage } from './live-page.ts';

const KEPT_SAMPLES = 600;
const TIMELINE = '/timeline.html';
/** The timeline has its script and style in itself, and asks for nothing else. */
const TIMELINE_POLICY =
  "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; frame-ancestors 'self'";

export class SearchPage {
  private readonly page: LivePage;
  private readonly title: string;
  private before: { atMs: number; executions: number } | null = null;

  constructor(page: LivePage, title: string) {
    this.page = page;
    this.title = title;
    page.run({ title, ok: null, says: 'The search has begun.' });
  }

  progress(progress: ExploreProgress): void {
    const { board } = this.page;
    const atMs = Date.now();
    const { executions } = progress;
    const perSecond = this.before === null ? null : rate(this.before, { atMs, executions });
    this.before = { atMs, executions };
    board.set('search', progress);
    board.add('search-samples', [{ atMs, perSecond, depth: progress.depth }], KEPT_SAMPLES);
    this.page.run({ title: this.title, ok: null, says: 'The search goes on.' });
  }

  /** `run` is the bug's, where it can be shown. */
  ended(result: ExploreResult, run: ShownRun | null): void {
    const { bug, complete, mutant, executions, blocked, steps, seconds } = result;
    const { board } = this.page;
    if (run !== null) {
      const bytes = Buffer.from(htmlTimeline(run, mutant));
      this.page.add(TIMELINE, { type: 'text/html; charset=utf-8', bytes, policy: TIMELINE_POLICY });
    }
    if (bug !== null) {
      const { invariant, message, preemptions, schedule } = bug;
      const statement = statementOf(invariant);
      board.set('bug', { message, statement, preemptions, steps: schedule.length, hasTimeline: run !== null });
    }
    const done = complete ? 1 : 0;
    board.set('search', { executions, blocked, steps, seconds, total: executions, done, depth: null, threads: [] });
    this.page.run({ title: this.title, ok: bug === null, says: verdict(result) });
  }
}

function verdict({ bug, complete, executions }: ExploreResult): string {
  if (bug !== null) return bug.message;
  if (complete) return `no invariant was broken in any of ${executions} orders`;
  return `no invariant was broken in ${executions} orders; the search is not complete`;
}

function rate(before: { atMs: number; executions: number }, now: { atMs: number; executions: number }): number {
  return ((now.executions - before.executions) * 1000) / Math.max(1, now.atMs - before.atMs);
}
