/** barter run: a scenario, once, on the engine, a served device or a real one. */
import type { Command } from 'commander';
import { buildMachine } from '../machine/build.ts';
import { loadMachine } from '../machine/load.ts';
import { DocumentError } from '../machine/yaml.ts';
import type { Backend } from '../scenario/backend.ts';
import { EngineBackend } from '../scenario/engine.ts';
import { loadScenario } from '../scenario/load.ts';
import { type RunResult, runScenario } from '../scenario/run.ts';
import { PROFILES, type ProfileName } from '../vfio/profile.ts';
import { UsageError } from './usage.ts';

interface RunOptions {
  on: string;
  profile: string;
  json?: true;
}

export function addRunCommand(program: Command): void {
  program
    .command('run')
    .argument('<scenario>', 'a scenario file, or the name of a built-in one (barter scenarios)')
    .description('run a scenario once and print each step with its outcome')
    .option('--on <backend>', 'engine, vfio-user, or linux:BDF', 'engine')
    .option(
      '--profile <name>',
      `how the engine decides where Linux is laxer: ${Object.keys(PROFILES).join(', ')}`,
      'default',
    )
    .option('--json', 'print one JSON document')
    .addHelpText('after', '\nExamples:\n  barter run memory-bit\n  barter run memory-bit --profile linux-7.3 --json')
    .action((scenario: string, options: RunOptions) => run(scenario, options));
}

function run(name: string, options: RunOptions): void {
  try {
    const { scenario, machinePath } = loadScenario(name);
    const result = runScenario(scenario, backendFor(options, machinePath));
    if (options.json === true) console.log(JSON.stringify(result));
    else print(result);
    if (result.blocked.length > 0) process.exitCode = 1;
  } catch (error) {
    if (error instanceof DocumentError) throw new UsageError(error.message);
    throw error;
  }
}

function backendFor(options: RunOptions, machinePath: string): Backend {
  if (!(options.profile in PROFILES)) throw new UsageError(`there is no profile ${options.profile}`);
  const profile = PROFILES[options.profile as ProfileName];
  if (options.on === 'engine') return new EngineBackend(buildMachine(loadMachine(machinePath)), profile);
  throw new UsageError(`--on ${options.on}: wants engine, vfio-user or linux:BDF`);
}

function print(result: RunResult): void {
  const width = Math.max(...result.steps.map((step) => step.task.length), 4);
  for (const { task, op, result: outcome } of result.steps) {
    const text = 'ok' in outcome ? `= ${JSON.stringify(outcome.ok)}` : `! ${outcome.message}`;
    console.log(`${task.padEnd(width)}  ${op}  ${text}`);
  }
  for (const { task, op, waitsFor } of result.blocked) {
    console.log(`${task.padEnd(width)}  ${op}  ... waits for ${waitsFor} for ever`);
  }
}
