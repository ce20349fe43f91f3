/** barter demo: the whole path on this machine, in seconds. */
import type { Command } from 'commander';
import { runDemo } from '../demo/demo.ts';
import { packageFile } from '../linux/package-file.ts';
import { timedStepText } from '../report/lines.ts';
import { declareCommand } from './summaries.ts';

const MACHINE = packageFile('examples/two-peers.yaml');

export function addDemoCommand(program: Command): void {
  declareCommand(program, 'demo')
    .option('--json', 'print one JSON document')
    .addHelpText('after', '\nExamples:\n  barter demo\n  barter demo --json')
    .action((options: { json?: true }) => demo(options.json === true));
}

async function demo(json: boolean): Promise<void> {
  const started = performance.now();
  if (!json) console.log('A client lends a BAR of one device to another over vfio-user, and takes it back.\n');
  const steps = await runDemo(MACHINE, (step) => {
    if (!json) console.log(timedStepText(step));
  });
  const ok = steps.every((step) => step.ok);
  if (!ok) process.exitCode = 1;
  if (json) console.log(JSON.stringify({ ok, steps }));
  else console.log(ok ? next(performance.now() - started) : '\nA step failed: see above.');
}

function next(ms: number): string {
  return `
All of it in ${(ms / 1000).toFixed(1)} s. What to try next:
  npx barter inspect examples/two-peers.yaml   what the two devices are
  npx barter explore revoke-vs-map             every interleaving, on the same code
  npx barter serve examples/two-peers.yaml     the devices for QEMU's vfio-user-pci
  npx barter lab run guest-export              a real Linux in QEMU drives them`;
}
