/** barter queue status and barter queue drop. */
import type { Command } from 'commander';
import { codeHash } from '../explore/queue/code-hash.ts';
import { connectQueue, type QueueConnection, QueueError } from '../explore/queue/connection.ts';
import { type QueueStatus, queueStatus } from '../explore/queue/status.ts';
import { QueueStore } from '../explore/queue/store.ts';
import { textTable } from '../report/table.ts';
import { asUsage } from './explore-errors.ts';
import { declareCommand } from './summaries.ts';

interface QueueFlags {
  queue: string;
  json?: true;
}

export function addQueueCommands(program: Command): void {
  const queue = declareCommand(program, 'queue').addHelpText(
    'after',
    `
Examples:
  barter queue status --queue redis://queue.example
  barter queue status --queue redis://queue.example --json
  barter queue drop 3f2a90c17be4d258 --queue redis://queue.example    end a search; its workers go on with others`,
  );
  queue
    .command('status')
    .description('the workers, the searches and how many jobs wait')
    .requiredOption('--queue <url>', 'the Redis of the queue: redis://HOST:PORT')
    .option('--json', 'one JSON document')
    .action((flags: QueueFlags) => connectedTo(flags.queue, (connection) => status(connection, flags)));
  queue
    .command('drop')
    .description('end a search that workers do')
    .argument('<search>', 'as barter queue status names it')
    .requiredOption('--queue <url>', 'the Redis of the queue: redis://HOST:PORT')
    .action((id: string, flags: QueueFlags) => connectedTo(flags.queue, (connection) => drop(connection, id)));
}

async function connectedTo(url: string, action: (connection: QueueConnection) => Promise<void>): Promise<void> {
  await asUsage(async () => {
    const connection = await connectQueue(url);
    try {
      await action(connection);
    } finally {
      await connection.close();
    }
  });
}

async function drop({ redis }: QueueConnection, id: string): Promise<void> {
  const store = new QueueStore(redis);
  if ((await store.search(id)) === null) {
    throw new QueueError(`there is no search ${id}; barter queue status lists them`);
  }
  await store.endSearch(id);
}

async function status(connection: QueueConnection, { json }: QueueFlags): Promise<void> {
  const found = await queueStatus(connection, codeHash());
  console.log(json === true ? JSON.stringify(found) : statusText(found));
}

function statusText({ code, jobs, workers, searches }: QueueStatus): string {
  const lines = [`version ${code}: ${jobs.waiting} jobs wait, ${jobs.active} are under way`];
  if (workers.length === 0) lines.push('no workers; start barter worker');
  else {
    const rows = workers.map((worker) => [worker.name, worker.doing, `${worker.done}`, versionOf(worker.code, code)]);
    lines.push('', textTable(['worker', 'does', 'jobs ended', 'version'], rows));
  }
  if (searches.length === 0) lines.push('', 'no searches');
  else {
    const rows = searches.map(({ id, scenario, executions, done, parts, code: version }) => [
      id,
      scenario,
      `${(done * 100).toFixed(1)} %`,
      `${executions}`,
      `${parts}`,
      versionOf(version, code),
    ]);
    lines.push('', textTable(['search', 'scenario', 'done', 'executions', 'parts ended', 'version'], rows));
  }
  return lines.join('\n');
}

function versionOf(code: string, own: string): string {
  return code === own ? code : `${code} (another)`;
}
