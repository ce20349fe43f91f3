/** The command: finds the subcommand's module, and turns its errors into an exit status and a sentence. */
import { readFileSync } from 'node:fs';
import type { Worker } from 'node:worker_threads';
import { Command, CommanderError } from 'commander';
import { Errno } from '../abi/errno.ts';
import { UsageError } from './usage.ts';

type Adder = (program: Command, servingThread?: Worker) => void;

/** Modules are loaded when one of their commands is asked for: a server should listen before an explorer is parsed. */
const MODULES: { commands: readonly string[]; load: () => Promise<Adder> }[] = [
  { commands: ['demo'], load: async () => (await import('./demo.ts')).addDemoCommand },
  { commands: ['serve'], load: async () => (await import('./serve.ts')).addServeCommand },
  { commands: ['import'], load: async () => (await import('./import.ts')).addImportCommand },
  { commands: ['inspect', 'capture'], load: async () => (await import('./machine.ts')).addMachineCommands },
  { commands: ['run'], load: async () => (await import('./run.ts')).addRunCommand },
  { commands: ['explore'], load: async () => (await import('./explore.ts')).addExploreCommand },
  { commands: ['replay', 'scenarios'], load: async () => (await import('./replay.ts')).addReplayCommands },
  { commands: ['lab'], load: async () => (await import('./lab.ts')).addLabCommands },
  { commands: ['bench'], load: async () => (await import('./bench.ts')).addBenchCommand },
];

function version(): string {
  return JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')).version;
}

/**
 * Runs `argv` as process.argv has it; sets process.exitCode: 0 good, 1 a check failed, 2 wrong usage. `servingThread` was
 * started for `serve`, and is loaded beside what the command line needs.
 */
export async function main(argv: readonly string[], servingThread?: Worker): Promise<void> {
  // Whoever reads our output may stop reading (head, a pager): that is no error of ours.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
    // A command with an end of its own listens, too.
    if (process.stdout.listenerCount('error') === 1) process.exit();
  });
  const program = new Command('barter')
    .description("Lends a PCI device's memory to its peers, and takes it back safely.")
    .version(version())
    .showHelpAfterError('Try: barter --help')
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
  const wanted = argv.slice(2).find((word) => !word.startsWith('-'));
  const modules = MODULES.filter((module) => wanted === undefined || module.commands.includes(wanted));
  for (const module of modules.length > 0 ? modules : MODULES) (await module.load())(program, servingThread);
  for (const command of program.commands) command.exitOverride();
  try {
    await program.parseAsync(argv as string[]);
  } catch (error) {
    report(error);
  }
}

function report(error: unknown): void {
  if (error instanceof CommanderError) {
    // Help and version are thrown too, with status 0.
    process.exitCode = error.exitCode === 0 ? 0 : 2;
    return;
  }
  if (error instanceof UsageError) {
    console.error(`barter: ${error.message}`);
    process.exitCode = 2;
    return;
  }
  console.error(error instanceof Errno ? `barter: ${error.message}` : error);
  process.exitCode = 1;
}
