/** barter serve: serves each device of a machine on a vfio-user socket, until a signal. */
import type { Worker } from 'node:worker_threads';
import type { Command } from 'commander';
import { Errno } from '../abi/errno.ts';
import { END_SIGNALS } from '../linux/end-signals.ts';
import type { MachineDescription } from '../machine/schema.ts';
import { type ServedMachine, type ServeOptions, serveMachine } from '../machine/served.ts';
import { IMPORTER_TIMEOUT_MS } from '../vfio-user/dma-buf/limits.ts';
import type { Log } from '../vfio-user/wire/log.ts';
import type { HttpAddress } from '../web/address.ts';
import type { ServedPage } from '../web/serve-page.ts';
import { makeFolder } from './files.ts';
import { addHttpOption, httpAddress, listenAt } from './http-option.ts';
import { npxAndItsShell } from './launcher.ts';
import { loadMachineFile } from './machine-path.ts';
import { PROFILE_NAMES, profileOf } from './profile-option.ts';
import type { ServeCapture } from './serve-capture.ts';
import { createLog, LOG_FORMATS, LOG_LEVELS } from './serve-log.ts';
import { ServeOutput } from './serve-output.ts';
import type { ServeTrace } from './serve-trace.ts';
import { defaultSocketDir } from './socket-folders.ts';
import { declareCommand } from './summaries.ts';
import { known, UsageError } from './usage.ts';

interface ServeCommandOptions {
  socketDir?: string;
  profile: string;
  importerTimeout?: string;
  trace?: true;
  pcap?: string;
  logLevel: string;
  log: string;
  http?: string;
  control?: true;
  json?: true;
}

/** `thread`: see ServeOptions. */
export function addServeCommand(program: Command, thread?: Worker): void {
  addHttpOption(declareCommand(program, 'serve'), 'serve a live page and /metrics')
    .argument('<machine>', 'a machine file (barter inspect shows what is in it)')
    .option(
      '--socket-dir <dir>',
      'where the sockets go (default: a folder for the machine under $XDG_RUNTIME_DIR or /tmp)',
    )
    .option('--profile <name>', `how to behave where Linux is laxer: ${PROFILE_NAMES}`, 'default')
    .option(
      '--importer-timeout <ms>',
      `disconnect an importer in another process that keeps a revoked buffer for so long (default: ${IMPORTER_TIMEOUT_MS})`,
    )
    .option('--trace', 'print a line for each command with its reply, errno and latency')
    .option('--pcap <file>', 'write every message to a capture for Wireshark (docs/captures.md) and barter replay')
    .option('--log-level <level>', `what goes to stderr: ${LOG_LEVELS.join(', ')}`, 'info')
    .option('--log <format>', `how it is written: ${LOG_FORMATS.join(' or ')}, a line for each entry`, 'text')
    .option('--control', 'with --http: let the page pull triggers; its address then has a secret token')
    .option('--json', 'print the ready line, and those of --trace, as JSON')
    .addHelpText(
      'after',
      `
The first line on stdout says that every socket listens. SIGINT, SIGTERM or SIGHUP ends the server and removes its
sockets, with status 0. It ends in the same way when the npx that runs it ends, or when the reader of --trace ends. A
slow reader of stdout or stderr loses lines and reads how many it lost: the server does not wait for it.

Examples:
  barter serve examples/two-peers.yaml
  barter serve examples/two-peers.yaml --socket-dir /run/barter --json
  barter serve examples/two-peers.yaml --trace
  barter serve examples/two-peers.yaml --pcap lender.pcapng
  barter serve examples/two-peers.yaml --http 8080
  barter serve examples/two-peers.yaml --http 0 --control       the line that says ready has the address
  qemu-system-x86_64 -M q35,memory-backend=ram -object memory-backend-memfd,id=ram,size=2G,share=on \\
    -device '{"driver":"vfio-user-pci","socket":{"type":"unix","path":"/run/barter/lender.sock"}}' ...`,
    )
    .action((machine: string, options: ServeCommandOptions) => serve(machine, options, thread));
}

async function serve(path: string, options: ServeCommandOptions, thread: Worker | undefined): Promise<void> {
  const threshold = LOG_LEVELS.find((level) => level === options.logLevel);
  if (threshold === undefined) throw new UsageError(`--log-level ${options.logLevel}: ${LOG_LEVELS.join(', ')}`);
  const format = known('log format', options.log, LOG_FORMATS);
  const address = httpAddress(options.http);
  if (address === null && options.control === true) {
    throw new UsageError('--control is for the page: add --http [HOST:]PORT');
  }
  const control = options.control === true;
  const profile = profileOf(options.profile);
  const description = loadMachineFile(path);
  const socketDir = options.socketDir ?? defaultSocketDir(description.machine);
  makeFolder(socketDir, '--socket-dir');
  const log = createLog(threshold, format === 'json');
  const capture = await captureOf(options.pcap, log);
  const output = new ServeOutput(options.json === true, () => {
    if (options.trace === true) stop();
  });
  const trace = options.trace === true ? new (await import('./serve-trace.ts')).ServeTrace(output) : null;
  let served: ServedMachine | null = null;
  const stop = () => void served?.stop();
  const launchers = npxAndItsShell();
  served = await listening(socketDir, () =>
    serveMachine(description, {
      socketDir,
      profile,
      importerTimeoutMs: milliseconds(options.importerTimeout),
      log,
      tap: listener(trace, capture),
      watch: address === null ? undefined : { control },
      until: launchers,
      thread,
    }),
  );
  for (const signal of END_SIGNALS) process.once(signal, stop);
  capture?.begin();
  const { watcher } = served;
  const page = address === null || watcher === null ? null : await open(address, served, description, control, stop);
  output.ready(served.devices, page?.url ?? null);
  await served.ended;
  page?.close();
  output.flush();
  capture?.close();
  for (const launcher of launchers) launcher.close();
}

/** Opens the page. Stops the server where the address cannot be had. */
async function open(
  address: HttpAddress,
  { watcher, devices }: ServedMachine,
  description: MachineDescription,
  control: boolean,
  stop: () => void,
): Promise<ServedPage> {
  const { startServePage } = await import('../web/serve-page.ts');
  const screens = devices.filter(({ screen }) => screen !== undefined).map(({ name }) => name);
  try {
    return await listenAt(address, () => startServePage(address, watcher!, description, control, screens));
  } catch (error) {
    stop();
    throw error;
  }
}

/** Loads --pcap's code with the option alone, as with --trace and --http: a server starts sooner so. */
async function captureOf(path: string | undefined, log: Log): Promise<ServeCapture | null> {
  return path === undefined ? null : new (await import('./serve-capture.ts')).ServeCapture(path, log);
}

/** Undefined where nobody listens: then the server copies no message. */
function listener(trace: ServeTrace | null, capture: ServeCapture | null): ServeOptions['tap'] {
  if (trace === null && capture === null) return undefined;
  return (message, lost) => {
    trace?.add(message, lost);
    capture?.add(message, lost);
  };
}

/** Runs `start`. If another server has the sockets, its error says what to do. */
async function listening<T>(socketDir: string, start: () => Promise<T>): Promise<T> {
  try {
    return await start();
  } catch (error) {
    if (!(error instanceof Errno) || error.code !== 'EADDRINUSE') throw error;
    throw new Errno('EADDRINUSE', `a server has sockets in ${socketDir}; stop it, or choose another --socket-dir`);
  }
}

function milliseconds(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1 || value > 3_600_000) {
    throw new UsageError(`--importer-timeout ${text}: 1 to 3600000 milliseconds`);
  }
  return value;
}
