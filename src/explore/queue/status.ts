/** What a queue does, for people and for programs. */
import type { QueueConnection } from './connection.ts';
import { QueueStore, type WorkerState } from './store.ts';

export interface QueueStatus {
  /** The version that the numbers of jobs are about. */
  code: string;
  jobs: { waiting: number; active: number };
  workers: WorkerState[];
  searches: SearchStatus[];
}

export interface SearchStatus {
  id: string;
  scenario: string;
  algorithm: string;
  mutant: string | null;
  code: string;
  seconds: number;
  /** As the first part of the search last reported them, every few seconds. */
  executions: number;
  done: number;
  /** How many parts have ended. */
  parts: number;
}

export async function queueStatus(connection: QueueConnection, code: string): Promise<QueueStatus> {
  const store = new QueueStore(connection.redis);
  const counts = await connection.queue(code).getJobCounts('wait', 'active');
  const searches: SearchStatus[] = [];
  for (const [id, { spec, code: version, startedAt }] of await store.searches()) {
    const { executions, done } = (await store.progress(id)) ?? { executions: 0, done: 0 };
    const { scenario, algorithm, mutant } = spec;
    const seconds = (Date.now() - startedAt) / 1000;
    const parts = await store.countResults(id);
    searches.push({ id, scenario, algorithm, mutant, code: version, seconds, executions, done, parts });
  }
  const jobs = { waiting: counts.wait, active: counts.active };
  return { code, jobs, workers: await store.workers(), searches };
}
