/** A job that a worker of a queue holds: its lock is renewed until its part is searched, or another worker gets it. */
import type { Job } from 'bullmq';
import type { PartJob } from './job.ts';
import type { PartTask } from './part-task.ts';
import type { QueuedSearch } from './store.ts';

export interface HeldTask {
  readonly job: Job<PartJob>;
  /** The lock of the job. */
  readonly token: string;
  readonly id: string;
  readonly search: QueuedSearch;
  readonly task: PartTask;
  /** The key of the part that it waits for, or null. */
  waitsFor: string | null;
  /** When it last looked for that part, and when it last left a checkpoint. */
  lookedMs: number;
  savedMs: number;
}
