/** barter import: a second process or a second server borrows a BAR of a served device. */
import type { Command } from 'commander';
import { runImport } from '../demo/import.ts';
import { timedStepText } from '../report/lines.ts';
import { demandSocket } from './socket-client.ts';
import { declareCommand } from './summaries.ts';
import { integer, UsageError } from './usage.ts';

interface ImportCommandOptions {
  borrower?: string;
  revokes: number;
  fd?: number;
  json?: true;
}

export function addImportCommand(program: Command): void {
  declareCommand(program, 'import')
    .argument('[lender]', 'the socket of a device with memory in BAR 0 (barter serve prints it)')
    .option('--borrower <socket>', 'the socket of a DMA engine that borrows: of another server, or the same')
    .option('--revokes <n>', 'how often the memory is taken back', integer(1, 1_000_000), 100)
    .option('--fd <n>', 'be the second process: import the dma-buf that is open as this descriptor', integer(0))
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
With --fd it maps the buffer, lets go when it is told to, and maps it again when it may; lines on stdin say what to do
(fill, copy, hold), lines of JSON on stdout say what happened. docs/dma-buf-socket.md is the protocol.

Examples:
  barter serve examples/two-peers.yaml --socket-dir /run/barter-a &
  barter import /run/barter-a/lender.sock
  barter serve examples/two-peers.yaml --socket-dir /run/barter-b &
  barter import /run/barter-a/lender.sock --borrower /run/barter-b/borrower.sock`,
    )
    .action((lender: string | undefined, options: ImportCommandOptions) => importBuffer(lender, options));
}

async function importBuffer(lender: string | undefined, options: ImportCommandOptions): Promise<void> {
  if ((lender === undefined) === (options.fd === undefined)) {
    throw new UsageError('import wants the socket of a lender, or --fd and the number of a descriptor');
  }
  if (options.fd !== undefined) {
    const { holdImporter } = await import('../demo/importer-main.ts');
    holdImporter(options.fd);
    return;
  }
  for (const socket of [lender!, options.borrower]) if (socket !== undefined) demandSocket(socket);
  const json = options.json === true;
  const steps = await runImport({ lender: lender!, borrower: options.borrower, revokes: options.revokes }, (step) => {
    if (!json) console.log(timedStepText(step));
  });
  const ok = steps.every((step) => step.ok);
  if (!ok) process.exitCode = 1;
  if (json) console.log(JSON.stringify({ ok, steps }));
}
