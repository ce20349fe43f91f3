/** Jobs of a queue: a part of a search. */
import type { Queue } from 'bullmq';

/** The data of a job that searches a part. */
export interface PartJob {
  search: string;
  key: string;
  state: object;
}

const PART = 'part';

export function partJobId(search: string, key: string): string {
  return `${search}-${key}`;
}

/** Adds the job of a part. Nothing happens if the queue has it already. */
export async function addPart(queue: Queue, job: PartJob): Promise<void> {
  const jobId = partJobId(job.search, job.key);
  await queue.add(PART, job, { jobId, removeOnComplete: true, removeOnFail: true });
}
