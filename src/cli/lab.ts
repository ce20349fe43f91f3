/** barter lab: a real QEMU with a real kernel in it. */
import { rmSync } from 'node:fs';
import type { Command } from 'commander';
import { labCache } from '../../lab/host/cache.ts';
import { findKernel } from '../../lab/kernel/kernels.ts';
import { addDiffCommand } from './lab-diff.ts';
import { addExecCommand } from './lab-exec.ts';
import { addKernelCommands } from './lab-kernel.ts';
import { addKernelOptions, KERNEL_HELP, type KernelOptions, reported } from './lab-options.ts';
import { addPeerTestsCommand } from './lab-peer-tests.ts';
import { addPeersCommand } from './lab-peers.ts';
import { prepare } from './lab-prepare.ts';
import { addRunCommand } from './lab-run.ts';
import { addSelftestsCommand } from './lab-selftests.ts';
import { addShellCommand } from './lab-shell.ts';
import { declareCommand } from './summaries.ts';

export function addLabCommands(program: Command): void {
  const lab = declareCommand(program, 'lab');
  addPrepareCommand(lab);
  addExecCommand(lab);
  addRunCommand(lab);
  addDiffCommand(lab);
  addShellCommand(lab);
  addKernelCommands(lab);
  addSelftestsCommand(lab);
  addPeersCommand(lab);
  addPeerTestsCommand(lab);
  lab
    .command('clean')
    .description('remove the cache')
    .addHelpText('after', CACHE_HELP)
    .action(() => rmSync(labCache(), { recursive: true, force: true }));
  for (const command of lab.commands) command.exitOverride();
}

function addPrepareCommand(lab: Command): void {
  const command = lab
    .command('prepare')
    .description('fetch QEMU and a kernel into the cache, outside the clone; what is there already is kept')
    .option('--json', 'print one JSON document');
  addKernelOptions(command)
    .addHelpText(
      'after',
      `${KERNEL_HELP}
${CACHE_HELP}

Examples:
  barter lab prepare
  barter lab prepare --kernel iommufd
  BARTER_CACHE=/var/cache/barter barter lab prepare`,
    )
    .action(({ kernel, modules, json }: KernelOptions & { json?: true }) =>
      reported(() => prepare(findKernel(kernel, modules ?? null), json === true)),
    );
}

const CACHE_HELP = `
The cache is $BARTER_CACHE/lab, else $XDG_CACHE_HOME/barter/lab, else ~/.cache/barter/lab; about 2 GB, and 3 GB more for
kernels that are built.
BARTER_MIRROR names a Debian mirror where apt's own sources name none. BARTER_SUITE=forky makes and uses a lab of that
release beside it, in lab-forky: another QEMU, another kernel.`;
