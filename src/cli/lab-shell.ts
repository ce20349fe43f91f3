/** barter lab shell: `barter lab exec` with the two peers, and the lender bound to vfio-pci. */
import type { Command } from 'commander';
import { guestAddress } from '../../lab/host/machine.ts';
import { packageFile } from '../linux/package-file.ts';
import { exec, NOT_UP } from './lab-exec.ts';
import { addRigOptions, KERNEL_HELP, type RigOptions, reported } from './lab-options.ts';

const MACHINE = packageFile('examples/two-peers.yaml');
/** The lender is the first device of the machine. */
const LENDER = guestAddress(0);
const BIND = `echo vfio-pci > /sys/bus/pci/devices/${LENDER}/driver_override && echo ${LENDER} > /sys/bus/pci/drivers_probe`;

export function addShellCommand(lab: Command): void {
  const shellCommand = lab
    .command('shell')
    .argument('[command]', "a command line of the guest's shell; without it, the shell reads the input")
    .description('boot a guest with served devices, the lender bound to vfio-pci, and run commands in it')
    .option('--json', 'print one JSON document, as barter lab exec does');
  addRigOptions(shellCommand)
    .addHelpText(
      'after',
      `
The guest sees this machine's files, so it has this machine's tools. The status is the command's, and Ctrl-] ends a
guest with a terminal; barter lab exec --help says more, and takes devices of your own.
${KERNEL_HELP}

Examples:
  barter lab shell
  barter lab shell 'cat /sys/bus/pci/devices/$BARTER_DEVICE_LENDER/resource'
  barter lab shell --kernel iommufd 'ls /dev/iommu /dev/vfio/devices'`,
    )
    .action((command: string | undefined, options: RigOptions) =>
      reported(
        () =>
          exec(command === undefined ? [] : ['/bin/sh', '-c', command], {
            ...options,
            ...{ machine: MACHINE, setup: [BIND] },
            ...{ device: [], module: [], share: [], qemuArg: [] },
          }),
        NOT_UP,
      ),
    );
}
