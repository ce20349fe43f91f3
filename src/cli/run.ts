/** barter run: a scenario, once, on the engine, a served device or a real one. */
import { mkdtempSync, rmSync } from 'node:fs';
import { release, tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Command } from 'commander';
import { Errno } from '../abi/errno.ts';
import { readPciDevice } from '../linux/sysfs.ts';
import { buildMachine } from '../machine/build.ts';
import { loadMachine } from '../machine/load.ts';
import type { MachineDescription } from '../machine/schema.ts';
import { serveMachine } from '../machine/served.ts';
import { DocumentError } from '../machine/yaml.ts';
import { EngineBackend } from '../scenario/engine/backend.ts';
import { LinuxBackend } from '../scenario/kernel/backend.ts';
import { loadScenario } from '../scenario/load.ts';
import { type RunResult, runScenario } from '../scenario/run.ts';
import { VfioUserBackend } from '../scenario/served/backend.ts';
import { checkForVfioUser, UnsupportedStepError } from '../scenario/served/check.ts';
import type { Scenario } from '../scenario/step.ts';
import { PROFILES, type ProfileName } from '../vfio/profile.ts';
import { declareCommand } from './summaries.ts';
import { UsageError } from './usage.ts';

interface RunOptions {
  on: string;
  profile: string;
  json?: true;
}

export function addRunCommand(program: Command): void {
  declareCommand(program, 'run')
    .argument('<scenario>', 'a scenario file, or the name of a built-in one (barter scenarios)')
    .option('--on <backend>', 'engine, vfio-user, or linux:BDF[,BDF] for real devices', 'engine')
    .option(
      '--profile <name>',
      `how the engine decides where Linux is laxer: ${Object.keys(PROFILES).join(', ')}`,
      'default',
    )
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
Exits with 1 where a step gives something else than its \`expect\`, or waits for ever.
Real devices have to be bound to vfio-pci, and their users need /dev/vfio; importers need the lab's module.

Examples:
  barter run memory-bit
  barter run memory-bit --profile linux-7.3 --json
  barter run bad-requests --on vfio-user
  barter run bad-requests --on linux:0000:01:00.0`,
    )
    .action((scenario: string, options: RunOptions) => run(scenario, options));
}

async function run(name: string, options: RunOptions): Promise<void> {
  try {
    const { scenario, machinePath } = loadScenario(name);
    const result = await runOn(options, scenario, machinePath);
    if (options.json === true) console.log(JSON.stringify(result));
    else print(result);
    if (result.blocked.length > 0 || result.steps.some((step) => 'expected' in step)) process.exitCode = 1;
  } catch (error) {
    if (error instanceof DocumentError || error instanceof UnsupportedStepError) throw new UsageError(error.message);
    throw error;
  }
}

async function runOn(options: RunOptions, scenario: Scenario, machinePath: string): Promise<RunResult> {
  if (!(options.profile in PROFILES)) throw new UsageError(`there is no profile ${options.profile}`);
  const profile = options.profile as ProfileName;
  const description = loadMachine(machinePath);
  if (options.on === 'engine') {
    return runScenario(scenario, new EngineBackend(buildMachine(description), PROFILES[profile]));
  }
  const log = (line: string) => console.error(`barter: ${line}`);
  if (options.on === 'vfio-user') return await runServed(scenario, description, profile, log);
  if (options.on.startsWith('linux:')) {
    return runScenario(scenario, new LinuxBackend(release(), addressesOf(options.on, description)));
  }
  throw new UsageError(`--on ${options.on}: wants engine, vfio-user or linux:BDF`);
}

/** linux:BDF[,BDF...]: real devices in the order of the machine's; scenarios open those that are bound to vfio-pci. */
function addressesOf(on: string, { devices }: MachineDescription): Map<string, string> {
  const addresses = on.slice('linux:'.length).split(',');
  if (addresses.length > devices.length) {
    throw new UsageError(`--on ${on}: ${addresses.length} addresses for a machine of ${devices.length} devices`);
  }
  try {
    return new Map(addresses.map((address, i) => [devices[i].name, readPciDevice(address).bdf]));
  } catch (error) {
    throw error instanceof Errno ? new UsageError(error.message) : error;
  }
}

/**
 * On a server of its own, in a thread, with its sockets in a folder that goes afterwards. UnsupportedStepError for what
 * cannot run there. `log`: see ServeOptions.
 */
export async function runServed(
  scenario: Scenario,
  description: MachineDescription,
  profile: ProfileName,
  log: (line: string) => void,
): Promise<RunResult> {
  checkForVfioUser(scenario);
  const socketDir = mkdtempSync(join(tmpdir(), 'barter-run-'));
  try {
    const served = await serveMachine(description, { socketDir, profile, log });
    try {
      return runScenario(scenario, new VfioUserBackend(served, profile === 'linux-7.3'));
    } finally {
      await served.stop();
    }
  } finally {
    rmSync(socketDir, { recursive: true, force: true });
  }
}

function print(result: RunResult): void {
  const width = Math.max(...result.steps.map((step) => step.task.length), 4);
  for (const step of result.steps) {
    const { task, op, result: outcome } = step;
    const text = 'ok' in outcome ? `= ${JSON.stringify(outcome.ok)}` : `! ${outcome.message}`;
    const unmet = 'expected' in step ? `  but ${JSON.stringify(step.expected)} was expected` : '';
    console.log(`${task.padEnd(width)}  ${op}  ${text}${unmet}`);
  }
  for (const { task, op, waitsFor } of result.blocked) {
    console.log(`${task.padEnd(width)}  ${op}  ... waits for ${waitsFor} for ever`);
  }
}
