/** barter conform server: every rule of the protocol, tried on the devices of any server. */
import type { Command } from 'commander';
import { Errno } from '../abi/errno.ts';
import { DRIVERS } from '../conform/drivers/catalogue.ts';
import { conformServer } from '../conform/engine.ts';
import { GROUPS } from '../conform/rule.ts';
import { RULES } from '../conform/rules/catalogue.ts';
import { type JudgedServer, RunningServer, ServerCommand, SOCKET_PLACE } from '../conform/server.ts';
import { NOT_APPLICABLE, Outcome, VERDICTS } from '../conform/verdict.ts';
import { isSocket } from '../linux/is-socket.ts';
import { addOutputOptions, chosen, judge, type OutputOptions } from './conform-output.ts';
import { integer, UsageError } from './usage.ts';

interface ServerOptions extends OutputOptions {
  socket?: string;
  device?: string;
}

const TIMEOUT_MS = 3000;

export function addConformServerCommand(conform: Command): void {
  const command = conform
    .command('server')
    .description("try the protocol's rules on a server, started anew after each fault")
    .argument('[command...]', `what starts the server, after --; ${SOCKET_PLACE} stands for the socket's path`)
    .option('--socket <path>', 'a server that runs already; it cannot be started anew')
    .option('--device <name>', 'only the device whose socket is NAME.sock')
    .option('--timeout <ms>', 'the longest wait for an answer', integer(10, 600_000), TIMEOUT_MS);
  addOutputOptions(command)
    .addHelpText('after', HELP)
    .action((words: string[], options: ServerOptions) => conformServerCommand(words, options));
}

const HELP = `
The words of the command may have {socket}, a path for the server's socket, or {dir}, a folder for several; a command with
--socket-dir DIR needs neither. A rule holds, is broken, crashes or hangs the server, is not-applicable to the device,
or is unclear: the protocol's text allows more than one answer. A fault counts where a fresh server shows it again.
docs/conform.md has the groups, and says how a rule reads.

Examples:
  barter conform server -- npx barter serve examples/two-peers.yaml --socket-dir /tmp/served
  barter conform server --html report.html -- ./my-server --listen {socket}
  barter conform server --socket /run/dev.sock --group irq --timeout 500
  barter conform server --rule reset.close-with-dma --json -- ./my-server {socket}

Exit status: 0 no fault, 1 a rule is broken, crashes or hangs the server, 2 wrong usage, 130 stopped.`;

async function conformServerCommand(words: readonly string[], options: ServerOptions): Promise<void> {
  const rules = chosen(RULES, options);
  const server = serverOf(words, options);
  const { socket, device } = options;
  const about = {
    title: 'barter conform server',
    target: socket ?? words.join(' '),
    groups: GROUPS,
    verdicts: [...VERDICTS].reverse(),
    skipped: NOT_APPLICABLE,
  };
  const only = device === undefined ? {} : { device };
  try {
    await judge(about, options, (trials) => conformServer(server, rules, { ...trials, drivers: DRIVERS, ...only }));
  } catch (error) {
    if (error instanceof Outcome)
      throw new Errno('EPROTO', `the server does not get as far as the rules: ${error.message}`);
    throw error;
  } finally {
    await server.dispose();
  }
}

function serverOf(words: readonly string[], { socket }: ServerOptions): JudgedServer {
  if ((socket === undefined) === (words.length === 0)) {
    throw new UsageError('conform server wants --socket PATH, or -- and the command that starts the server');
  }
  if (socket !== undefined) {
    if (!isSocket(socket)) throw new UsageError(`${socket}: there is no such socket; start the server that makes it`);
    return new RunningServer(socket);
  }
  try {
    return new ServerCommand(words);
  } catch (error) {
    throw error instanceof Errno && error.code === 'EINVAL' ? new UsageError(error.reason) : error;
  }
}
