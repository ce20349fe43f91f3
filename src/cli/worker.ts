/** barter worker. */
import type { Command } from 'commander';
import { connectQueue } from '../explore/queue/connection.ts';
import { QueueWorker } from '../explore/queue/queue-worker.ts';
import { catalogue } from '../verify/catalogue.ts';
import { asUsage } from './explore-errors.ts';
import { declareCommand } from './summaries.ts';
import { integer } from './usage.ts';

interface WorkerFlags {
  queue: string;
  lostAfter: number;
}

export function addWorkerCommand(program: Command): void {
  declareCommand(program, 'worker')
    .requiredOption('--queue <url>', 'the Redis of the queue: redis://HOST:PORT')
    .option('--lost-after <seconds>', 'when the jobs of a silent worker go to others', integer(1, 3600), 10)
    .addHelpText(
      'after',
      `
A worker uses one core: start one for each. It needs the same version of Barter as the other side, and the same file at
the same path for a program of your own. Ctrl-C and SIGTERM end it, and others continue its parts. So do they when it
is killed.

Examples:
  barter worker --queue redis://queue.example
  barter explore revoke-vs-map:4 --queue redis://queue.example    on any machine
  barter queue status --queue redis://queue.example               what the workers do`,
    )
    .action((flags: WorkerFlags) => asUsage(() => work(flags)));
}

async function work({ queue, lostAfter }: WorkerFlags): Promise<void> {
  const connection = await connectQueue(queue);
  const note = (text: string): void => console.error(`${new Date().toISOString()} ${text}`);
  const worker = new QueueWorker({ connection, catalogue, lostMs: lostAfter * 1000, onNote: note });
  const stop = (): void => worker.stop();
  process.once('SIGINT', stop);
  process.once('SIGTERM', stop);
  note(`worker ${worker.name} (version ${worker.code}) waits for jobs`);
  try {
    await worker.run();
    note(`worker ${worker.name} ends`);
  } finally {
    await connection.close();
  }
}
