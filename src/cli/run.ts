/** barter run: runs a scenario once, on the engine, served devices or real ones. */
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
import { paint } from '../report/colour.ts';
import { beside, columns, hang } from '../report/lines.ts';
import { EngineBackend } from '../scenario/engine/backend.ts';
import { LinuxBackend } from '../scenario/kernel/backend.ts';
import { loadScenario } from '../scenario/load.ts';
import { type RunResult, runScenario } from '../scenario/run.ts';
import { VfioUserBackend } from '../scenario/served/backend.ts';
import { checkForVfioUser, UnsupportedStepError } from '../scenario/served/check.ts';
import type { Scenario, StepResult } from '../scenario/step.ts';
import type { Profile } from '../vfio/profile.ts';
import { PROFILE_NAMES, profileOf } from './profile-option.ts';
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
    .option('--profile <name>', `how the engine decides where Linux is laxer: ${PROFILE_NAMES}`, 'default')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
Exits with 1 where a step gives something else than its \`expect\`, or waits for ever.
Real devices have to be bound to vfio-pci, and their users need /dev/vfio; importers need the lab's module.

Examples:
  barter run memory-bit
  barter run bad-requests --profile linux-7.3         what Linux accepts, and Barter refuses
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
    else print(scenario.scenario, result);
    if (result.blocked.length > 0 || result.steps.some((step) => 'expected' in step)) process.exitCode = 1;
  } catch (error) {
    if (error instanceof DocumentError || error instanceof UnsupportedStepError) throw new UsageError(error.message);
    throw error;
  }
}

async function runOn(options: RunOptions, scenario: Scenario, machinePath: string): Promise<RunResult> {
  const profile = profileOf(options.profile);
  const description = loadMachine(machinePath);
  if (options.on === 'engine') {
    return runScenario(scenario, new EngineBackend(buildMachine(description), profile));
  }
  const log = (line: string) => console.error(`barter: ${line}`);
  if (options.on === 'vfio-user') return await runServed(scenario, description, profile, log);
  if (options.on.startsWith('linux:')) {
    return runScenario(scenario, new LinuxBackend(release(), addressesOf(options.on, description), profile));
  }
  throw new UsageError(`--on ${options.on}: wants engine, vfio-user or linux:BDF`);
}

/**
 * linux:BDF[,BDF...]: real devices, in the order of the machine's devices. Scenarios open those that are bound to
 * vfio-pci.
 */
function addressesOf(on: string, { devices }: MachineDescription): Map<string, string> {
  const addresses = on.slice('linux:'.length).split(',');
  if (addresses.length > devices.length) {
    throw new UsageError(`--on ${on}: ${addresses.length} addresses for a machine of ${devices.length} devices`);
  }
  try {
    return new Map(addresses.map((address, i) => [devices[i].name, readPciDevice(address).bdf]));
  } catch (error) {
    throw error instanceof Errno ? new UsageError(`--on ${on}: ${error.message}`) : error;
  }
}

/**
 * Runs it on a separate server in a thread, and removes the folder of its sockets afterwards. UnsupportedStepError for
 * steps that cannot run there. `log`: see ServeOptions.
 */
export async function runServed(
  scenario: Scenario,
  description: MachineDescription,
  profile: Profile,
  log: (line: string) => void,
): Promise<RunResult> {
  checkForVfioUser(scenario);
  const socketDir = mkdtempSync(join(tmpdir(), 'barter-run-'));
  try {
    const served = await serveMachine(description, { socketDir, profile, log });
    try {
      return runScenario(scenario, new VfioUserBackend(served, profile));
    } finally {
      await served.stop();
    }
  } finally {
    rmSync(socketDir, { recursive: true, force: true });
  }
}

function print(name: string, result: RunResult): void {
  const width = Math.max(...result.steps.map((step) => step.task.length), 4);
  const line = (task: string, op: string, outcome: string) =>
    console.log(beside(`${task.padEnd(width)}  ${hang(op, width + 4, columns(), width + 2)}`, outcome, width + 4));
  for (const { task, op, result: outcome, ...rest } of result.steps) {
    line(task, op, outcomeText(outcome));
    if (!('expected' in rest)) continue;
    console.log(`${' '.repeat(width + 4)}${paint('bad', `FAILED: ${JSON.stringify(rest.expected)} was expected`)}`);
  }
  for (const { task, op, waitsFor } of result.blocked) {
    line(task, op, `... waits for ${waitsFor} for ever`);
    console.log(`${' '.repeat(width + 4)}${paint('bad', 'FAILED: the task never ends')}`);
  }
  console.log(`\n${verdict(name, result)}`);
}

/** The result of a step in words, unless it is null, as for most steps that succeed. */
function outcomeText(outcome: StepResult): string {
  if ('errno' in outcome) return `! ${outcome.message}`;
  return outcome.ok === null ? '' : `= ${JSON.stringify(outcome.ok)}`;
}

function verdict(name: string, { backend, steps, blocked }: RunResult): string {
  const unmet = steps.filter((step) => 'expected' in step).length;
  const wrong = [
    ...(unmet > 0 ? [`${unmet} of ${steps.length} steps gave something else than expected`] : []),
    ...(blocked.length > 0 ? [`${blocked.length} ${blocked.length === 1 ? 'task waits' : 'tasks wait'} for ever`] : []),
  ];
  const where = `${name} on ${backend}`;
  if (wrong.length > 0) return `${paint('bad', 'FAILED')}  ${where}: ${wrong.join(', and ')}.`;
  return `${paint('good', 'ok')}  ${where}: ${steps.length} steps, all as expected.`;
}
