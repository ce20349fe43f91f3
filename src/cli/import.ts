/** barter import: a BAR of a served device, borrowed by a second process or a second server. */
import type { Command } from 'commander';
import { runImport } from '../demo/import.ts';
import { declareCommand } from './summaries.ts';
import { UsageError } from './usage.ts';

interface ImportCommandOptions {
  borrower?: string;
  revokes: string;
  fd?: string;
  json?: true;
}

export function addImportCommand(program: Command): void {
  declareCommand(program, 'import')
    .argument('[lender]', 'the socket of a device with memory in BAR 0 (barter serve prints it)')
    .option('--borrower <socket>', 'the socket of a DMA engine that borrows: of another server, or the same')
    .option('--revokes <n>', 'how often the memory is taken back', '100')
    .option('--fd <n>', 'be the second process: import the dma-buf that is open as this descriptor')
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
    throw new UsageError('say a lender socket, or --fd and the number of a descriptor');
  }
  if (options.fd !== undefined) {
    const { holdImporter } = await import('../demo/importer-main.ts');
    holdImporter(natural('--fd', options.fd, 0));
    return;
  }
  const json = options.json === true;
  const revokes = natural('--revokes', options.revokes, 1);
  const steps = await runImport(
    { lender: lender!, borrower: options.borrower, revokes },
    ({ name, ok, ms, detail }) => {
      if (!json)
        console.log(`${ok ? '  ok  ' : 'FAILED'}  ${name.padEnd(32)} ${ms.toFixed(1).padStart(7)} ms  ${detail}`);
    },
  );
  const ok = steps.every((step) => step.ok);
  if (!ok) process.exitCode = 1;
  if (json) console.log(JSON.stringify({ ok, steps }));
}

function natural(option: string, text: string, least: number): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < least || value > 1_000_000) {
    throw new UsageError(`${option} ${text}: a number from ${least} on is needed`);
  }
  return value;
}
