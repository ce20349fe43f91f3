/** barter conform client: a client against a server that deviates from a plain one in one way at a time. */
import type { Command } from 'commander';
import { Errno } from '../abi/errno.ts';
import { CLIENT_GROUPS } from '../conform/client/deviation.ts';
import { DEVIATIONS } from '../conform/client/deviations/catalogue.ts';
import { CLIENT_VERDICTS, conformClient } from '../conform/client/engine.ts';
import { SOCKET_PLACE } from '../conform/server.ts';
import { addOutputOptions, chosen, judge, type OutputOptions } from './conform-output.ts';
import { integer, UsageError } from './usage.ts';

const TIMEOUT_MS = 15_000;

export function addConformClientCommand(conform: Command): void {
  const command = conform
    .command('client')
    .description('run a client against a server that deviates in one way at a time')
    .argument('<command...>', `what runs the client, after --; ${SOCKET_PLACE} stands for the socket's path`)
    .option('--timeout <ms>', 'a client that runs longer hangs', integer(10, 600_000), TIMEOUT_MS);
  addOutputOptions(command).addHelpText('after', HELP).action(conformClientCommand);
}

const HELP = `
The client must end by itself: with status 0 it goes on, with another it refuses, by a signal it dies. Nothing may make
a client hang or die. What the protocol allows, such as late replies, it must not refuse either.

Examples:
  barter conform client -- npx barter inspect {socket}
  barter conform client --group region -- ./my-client {socket}
  barter lab peers && barter conform client --timeout 12000 -- ~/.cache/barter/lab/peers/qemu-client {socket}

Exit status: 0 no fault, 1 a fault, 2 wrong usage, 130 stopped.`;

async function conformClientCommand(words: readonly string[], options: OutputOptions) {
  const deviations = chosen(DEVIATIONS, options);
  const about = {
    title: 'barter conform client',
    target: words.join(' '),
    groups: CLIENT_GROUPS,
    verdicts: CLIENT_VERDICTS,
    skipped: 'not-applicable',
  };
  try {
    await judge(about, options, (trials) => conformClient(words, deviations, trials));
  } catch (error) {
    throw error instanceof Errno && error.code === 'EINVAL' ? new UsageError(error.reason) : error;
  }
}
