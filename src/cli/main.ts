/** The command: finds the subcommand's module, and turns its errors into an exit status and a sentence. */
import { readFileSync } from 'node:fs';
import type { Worker } from 'node:worker_threads';
import { Command, CommanderError } from 'commander';
import { Errno } from '../abi/errno.ts';
import { packageFile } from '../linux/package-file.ts';
import { declareCommand, type SUMMARIES } from './summaries.ts';
import { systemErrorText, UsageError } from './usage.ts';

type Adder = (program: Command, servingThread?: Worker) => void;

/** The module of each command, loaded on demand. */
const MODULES: Record<keyof typeof SUMMARIES, () => Promise<Adder>> = {
  demo: async () => (await import('./demo.ts')).addDemoCommand,
  serve: async () => (await import('./serve.ts')).addServeCommand,
  import: async () => (await import('./import.ts')).addImportCommand,
  inspect: async () => (await import('./inspect.ts')).addInspectCommand,
  capture: async () => (await import('./capture.ts')).addCaptureCommand,
  peek: async () => (await import('./peek.ts')).addPeekCommand,
  poke: async () => (await import('./peek.ts')).addPokeCommand,
  conform: async () => (await import('./conform.ts')).addConformCommands,
  screenshot: async () => (await import('./screenshot.ts')).addScreenshotCommand,
  devices: async () => (await import('./devices.ts')).addDevicesCommand,
  run: async () => (await import('./run.ts')).addRunCommand,
  explore: async () => (await import('./explore.ts')).addExploreCommand,
  worker: async () => (await import('./worker.ts')).addWorkerCommand,
  queue: async () => (await import('./queue.ts')).addQueueCommands,
  replay: async () => (await import('./replay.ts')).addReplayCommands,
  scenarios: async () => (await import('./replay.ts')).addReplayCommands,
  reproducer: async () => (await import('./reproducer.ts')).addReproducerCommand,
  lab: async () => (await import('./lab.ts')).addLabCommands,
  'check-tasks': async () => (await import('./check-tasks.ts')).addCheckTasksCommand,
  complete: async () => (await import('./complete.ts')).addCompleteCommand,
  bench: async () => (await import('./bench.ts')).addBenchCommand,
};

type CommandName = keyof typeof MODULES;

/** Adds a command of the first level, with those below it. */
export async function addCommand(program: Command, name: CommandName): Promise<void> {
  (await MODULES[name]())(program);
}

function version(): string {
  return JSON.parse(readFileSync(packageFile('package.json'), 'utf8')).version;
}

/**
 * Runs `argv`, in the form of process.argv. Sets process.exitCode: 0 good, 1 a check failed, 2 wrong usage.
 * `servingThread` was started for `serve`, and loads beside the modules of the command line.
 */
export async function main(argv: readonly string[], servingThread?: Worker): Promise<void> {
  // The reader of stdout may stop reading (head, a pager): that is not an error.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
    // A command that handles this itself also listens.
    if (process.stdout.listenerCount('error') === 1) process.exit();
  });
  const program = new Command('barter')
    .description("Lends a PCI device's memory to its peers, and takes it back safely.")
    .version(version())
    .configureOutput({ outputError: (text, write) => write(asOneLine(text, argv)) })
    .exitOverride();
  program.addHelpText(
    'after',
    `
Examples:
  barter demo                                      the whole path on this machine, in seconds
  barter inspect examples/two-peers.yaml           BARs, capabilities, who reaches whom
  barter serve examples/two-peers.yaml             sockets for QEMU's -device vfio-user-pci
  barter explore revoke-vs-map                     every interleaving of a revoke and a map
  barter lab run guest-export                      a real Linux drives a served device

Exit status: 0 good, 1 a check failed, 2 wrong usage.`,
  );
  const wanted = commandName(argv);
  if (wanted === null) for (const name of Object.keys(MODULES)) declareCommand(program, name as CommandName);
  else if (wanted !== 'complete' || argv[3] !== '--') (await MODULES[wanted]())(program, servingThread);
  for (const command of program.commands) command.exitOverride();
  try {
    if (wanted === 'complete' && argv[3] === '--') await completeWords(program, argv.slice(4));
    else await program.parseAsync(argv as string[]);
  } catch (error) {
    report(error);
  }
}

/** Answers a completion script. Loads only the command that the words name; the others have their summaries. */
async function completeWords(program: Command, words: readonly string[]): Promise<void> {
  const name = commandName(['', '', ...words]);
  if (name !== null) await addCommand(program, name);
  for (const other of Object.keys(MODULES) as CommandName[]) {
    if (!program.commands.some((command) => command.name() === other)) declareCommand(program, other);
  }
  const { printCompletions } = await import('./complete.ts');
  await printCompletions(program, words);
}

/** The command that `argv` names, also as `barter help COMMAND`; null for none or an unknown one. */
function commandName(argv: readonly string[]): CommandName | null {
  const [first, second] = argv.slice(2).filter((word) => !word.startsWith('-'));
  const name = first === 'help' ? second : first;
  return name !== undefined && Object.hasOwn(MODULES, name) ? (name as CommandName) : null;
}

function report(error: unknown): void {
  if (error instanceof CommanderError) {
    // commander throws for help and version too, with status 0.
    process.exitCode = error.exitCode === 0 ? 0 : 2;
    return;
  }
  if (error instanceof UsageError) {
    console.error(`barter: ${error.message}`);
    process.exitCode = 2;
    return;
  }
  const text = error instanceof Errno ? error.message : systemErrorText(error);
  console.error(`barter: ${text ?? defectText(error)}`);
  process.exitCode = 1;
}

/** The text for an error that Barter does not expect. It has a stack only on request. */
function defectText(error: unknown): string {
  if (process.env.BARTER_DEBUG !== undefined) return (error as Error)?.stack ?? String(error);
  const message = error instanceof Error ? error.message : String(error);
  return `unexpected: ${message.split('\n')[0]}; BARTER_DEBUG=1 shows where, and a report of it is welcome`;
}

/** Rewrites commander's message in Barter's form: one line, with the next step. */
function asOneLine(text: string, argv: readonly string[]): string {
  const said = text
    .replace(/^error: /, '')
    .trim()
    .replace(/\s*\n\s*/g, ' ')
    .replace(/\.$/, '');
  const name = commandName(argv);
  return `barter: ${said}; see barter ${name === null ? '' : `${name} `}--help\n`;
}
