/** barter lab shell: commands in the guest. */
import { createInterface } from 'node:readline';
import type { KernelName } from '../../lab/kernel/kernels.ts';
import { undocumented } from '../../lab/kernel/reports.ts';
import { labShell, type ShellOutput } from '../../lab/runs/shell.ts';
import { printReports } from './lab-reports.ts';

/** One command, whose status is ours then; or each line of the input. Of what the kernel complains of, 1 is ours. */
export async function shell(command: string | undefined, kernel: KernelName, json: boolean): Promise<void> {
  const show = (output: ShellOutput) => {
    if (json) return console.log(JSON.stringify(output));
    process.stdout.write(output.stdout);
    process.stderr.write(output.stderr);
  };
  const reports = await labShell(kernel, async (run) => {
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
