/** barter lab shell: commands in the guest. */
import { createInterface } from 'node:readline';
import type { Command } from 'commander';
import { undocumented } from '../../lab/kernel/reports.ts';
import { labShell, type ShellOutput } from '../../lab/runs/shell.ts';
import { addRigOptions, KERNEL_HELP, type LabRig, type RigOptions, reported, takeRig } from './lab-options.ts';
import { printReports } from './lab-reports.ts';

export function addShellCommand(lab: Command): void {
  const shellCommand = lab
    .command('shell')
    .argument('[command]', "one command of the guest's shell; without it, each line of the input is one")
    .description('boot a guest with served devices, the lender bound to vfio-pci, and run commands in it')
    .option('--json', 'print a JSON document for each command, and one for what the kernel complained of');
  addRigOptions(shellCommand)
    .addHelpText(
      'after',
      `
The guest sees this machine's files, read-only, and ends with the input. The status is that of the one command, or 1
where the kernel complained of something.
${KERNEL_HELP}

Examples:
  barter lab shell
  barter lab shell 'cat /sys/bus/pci/devices/0000:01:00.0/resource'
  barter lab shell --kernel iommufd 'ls /dev/iommu /dev/vfio/devices'`,
    )
    .action((command: string | undefined, options: RigOptions) =>
      reported(async () => shell(command, await takeRig(options), options.json === true)),
    );
}

/**
 * Runs one command, and exits with its status; or each line of the input. A complaint of the kernel gives exit status
 * 1.
 */
async function shell(command: string | undefined, { kernel, accel }: LabRig, json: boolean): Promise<void> {
  const show = (output: ShellOutput) => {
    if (json) return console.log(JSON.stringify(output));
    process.stdout.write(output.stdout);
    process.stderr.write(output.stderr);
  };
  const reports = await labShell(kernel, accel, async (run) => {
    if (command !== undefined) {
      const output = await run(command);
      show(output);
      process.exitCode = output.status ?? 1;
      return;
    }
    const lines = createInterface({ input: process.stdin, output: process.stderr, prompt: 'guest# ' });
    lines.prompt();
    for await (const line of lines) {
      if (line.trim() !== '') show(await run(line));
      lines.prompt();
    }
  });
  if (undocumented(reports).length > 0) process.exitCode ||= 1;
  if (!json) printReports(reports);
  else if (reports.length > 0) console.log(JSON.stringify({ reports }));
}
