/** barter explore, replay, scenarios. */
import { readFileSync, writeFileSync } from 'node:fs';
import type { Command } from 'commander';
import {
  ALGORITHMS,
  type Algorithm,
  type ExploreResult,
  explore,
  listScenarios,
  type ReplayFile,
  replay,
  replayFileOf,
  runOf,
  UnknownNameError,
} from '../explore/explore.ts';
import { listMutants, type MutantResult, runMutants } from '../explore/mutants/run.ts';
import { htmlTimeline } from '../report/html.ts';
import { textTimeline } from '../report/timeline.ts';
import { builtInScenarios, loadScenario } from '../scenario/load.ts';
import { UsageError } from './usage.ts';

interface ExploreFlags {
  algorithm: string;
  mutant?: string;
  mutants?: boolean;
  bound?: number;
  seed: number;
  max?: number;
  html?: string;
  replayFile?: string;
  json?: boolean;
}

export function addExploreCommands(program: Command): void {
  program
    .command('explore [scenario]')
    .description(
      'runs a scenario through every interleaving that matters; shows the shortest one that breaks an invariant',
    )
    .option('--algorithm <name>', ALGORITHMS.join(', '), 'optimal')
    .option('--mutant <name>', 'with a known bug put back')
    .option('--mutants', 'every mutant on its scenario: each must be caught')
    .option('--bound <n>', 'only orders with at most n preemptions, depth first', count)
    .option('--seed <n>', 'for pct, pos and random', count, 1)
    .option('--max <n>', 'stop after n executions', count)
    .option('--html <file>', 'write the run of a bug as a page')
    .option('--replay-file <file>', 'where the replay file of a bug goes (default: SCENARIO.replay.json)')
    .option('--json', 'one JSON document')
    .addHelpText('after', EXPLORE_EXAMPLES)
    .action(exploreCommand);
  program
    .command('replay <file>')
    .description('runs the schedule of a replay file again, step by step, and checks that it is the same run')
    .option('--html <file>', 'write the run as a page')
    .option('--stacks', 'under each step the stack that took it')
    .option('--json', 'one JSON document')
    .addHelpText('after', '\nExample:\n  barter replay revoke-2.replay.json')
    .action(replayCommand);
  program
    .command('scenarios')
    .description('lists what explore and run know by name')
    .option('--json', 'one JSON document')
    .addHelpText('after', '\nExample:\n  barter scenarios')
    .action(scenariosCommand);
}

const EXPLORE_EXAMPLES = `
Examples:
  barter explore revoke-vs-map                        every interleaving of a revoke and a map
  barter explore lastzero:10 --algorithm source       a classic, with the older reduction
  barter explore revoke:2 --mutant classic-no-drain   a known bug, its shortest schedule, a replay file
  barter explore --mutants                            every known bug

Exit status: 0 nothing found, 1 a bug was found (or a mutant was not), 2 wrong usage.`;

function count(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 0) throw new UsageError(`${text} is no count`);
  return value;
}

async function exploreCommand(scenario: string | undefined, flags: ExploreFlags): Promise<void> {
  if (flags.mutants === true) return mutantsCommand(flags);
  if (scenario === undefined) throw new UsageError('explore wants a scenario; barter scenarios lists them');
  if (!(ALGORITHMS as readonly string[]).includes(flags.algorithm)) {
    throw new UsageError(`there is no algorithm ${flags.algorithm}; there are ${ALGORITHMS.join(', ')}`);
  }
  if (flags.mutant !== undefined && !listMutants().includes(flags.mutant)) {
    throw new UsageError(`there is no mutant ${flags.mutant}; there are ${listMutants().join(', ')}`);
  }
  const { mutant, bound, max, seed } = flags;
  const result = await asUsage(() =>
    explore({
      scenario,
      algorithm: flags.algorithm as Algorithm,
      seed,
      ...(mutant === undefined ? {} : { mutant }),
      ...(bound === undefined ? {} : { bound }),
      ...(max === undefined ? {} : { max }),
      ...(process.stderr.isTTY && flags.json !== true ? { onProgress: showProgress } : {}),
    }),
  );
  if (flags.json === true) console.log(JSON.stringify(withoutNumbers(result)));
  else print(result);
  if (result.bug === null) return;
  process.exitCode = 1;
  const file = replayFileOf(result);
  if (file === null) return;
  const path = flags.replayFile ?? `${result.scenario.replace(':', '-')}.replay.json`;
  writeFileSync(path, `${JSON.stringify(file)}\n`);
  const run = runOf(file.scenario, file.mutant, file.steps);
  if (flags.html !== undefined) writeFileSync(flags.html, htmlTimeline(run, file.mutant));
  if (flags.json === true) return;
  console.log(`\n${textTimeline(run)}\n\nRun it again: barter replay ${path}`);
}

function withoutNumbers(result: ExploreResult): object {
  if (result.bug === null) return result;
  const { steps: _, ...bug } = result.bug;
  return { ...result, bug };
}

function print(result: ExploreResult): void {
  const { scenario, algorithm, executions, blocked, steps, seconds, complete, bug } = result;
  const rate = Math.round(steps / Math.max(seconds, 1e-3));
  console.log(`${scenario} (${algorithm}): ${executions} executions, ${blocked} blocked, ${steps} steps`);
  console.log(`${seconds.toFixed(2)} s, ${rate} steps/s; ${complete ? 'complete' : 'not complete'}`);
  if (bug === null) console.log('no invariant was broken');
  else console.log(`${bug.message}\n${bug.preemptions} preemptions, ${bug.schedule.length} steps`);
}

function showProgress({ executions, seconds, done }: { executions: number; seconds: number; done: number }): void {
  const left = done > 0 ? `, about ${Math.round((seconds / done) * (1 - done))} s left` : '';
  process.stderr.write(`\r${executions} executions, ${(done * 100).toFixed(1)} %${left}   `);
}

async function mutantsCommand(flags: ExploreFlags): Promise<void> {
  const total = listMutants().length;
  let done = 0;
  const onTerminal = process.stderr.isTTY && flags.json !== true;
  if (flags.json !== true) console.log(MUTANT_HEAD);
  const mutants = await runMutants((result) => {
    done += 1;
    if (flags.json === true) return;
    if (onTerminal) process.stderr.write('\r\x1b[K');
    console.log(mutantLine(result));
    if (onTerminal && done < total) process.stderr.write(`${done} of ${total}`);
  });
  const missed = mutants.filter((mutant) => !mutant.caught).length;
  if (flags.json === true) console.log(JSON.stringify({ mutants }));
  else console.log(missed === 0 ? `all ${total} caught` : `${missed} of ${total} MISSED`);
  if (mutants.some((mutant) => !mutant.caught)) process.exitCode = 1;
}

const MUTANT_HEAD = `${'mutant'.padEnd(29)}${'breaks'.padEnd(8)}${'in'.padEnd(29)}seconds  steps  preemptions`;

function mutantLine({
  name,
  invariant,
  scenario,
  caught,
  seconds,
  schedule,
  preemptions,
  found,
}: MutantResult): string {
  const what = `${name.padEnd(28)} ${invariant.padEnd(7)} ${scenario.padEnd(28)} ${seconds.toFixed(2).padStart(7)}`;
  if (!caught) return `${what}  MISSED${found === null ? '' : `, but ${found}`}`;
  return `${what}  ${String(schedule.length).padStart(5)}  ${String(preemptions).padStart(11)}`;
}

function replayCommand(path: string, flags: { html?: string; stacks?: boolean; json?: boolean }): void {
  const file = readReplay(path);
  const { run, matches } = replay(file);
  if (flags.html !== undefined) writeFileSync(flags.html, htmlTimeline(run, file.mutant));
  if (flags.json === true) {
    const bug = run.finding === null ? null : { ...run.finding, schedule: run.steps.map((s) => s.task) };
    console.log(
      JSON.stringify({
        scenario: run.program,
        executions: 1,
        blocked: 0,
        steps: run.steps.length,
        matches,
        bug: bug === null ? null : { ...bug, preemptions: run.preemptions },
      }),
    );
  } else {
    console.log(textTimeline(run, { stacks: flags.stacks === true }));
    if (!matches) console.log('\nThis is not the run of the file: the code has changed since it was written.');
  }
  if (run.finding !== null || !matches) process.exitCode = 1;
}

function readReplay(path: string): ReplayFile {
  let file: ReplayFile;
  try {
    file = JSON.parse(readFileSync(path, 'utf8')) as ReplayFile;
  } catch (error) {
    throw new UsageError(`${path}: ${(error as Error).message}`);
  }
  if (file.barter !== 'replay' || !Array.isArray(file.steps)) throw new UsageError(`${path} is no replay file`);
  return file;
}

function scenariosCommand(flags: { json?: boolean }): void {
  const scenarios = listScenarios();
  const files = builtInScenarios().map((name) => ({ name, summary: loadScenario(name).scenario.description }));
  if (flags.json === true) {
    console.log(JSON.stringify({ scenarios, files }));
    return;
  }
  const line = ({ name, summary }: { name: string; summary: string }) => console.log(`${name.padEnd(32)} ${summary}`);
  console.log('For barter explore (NAME:N takes N importers):');
  scenarios.forEach(line);
  console.log('\nFor barter run (files in examples/scenarios):');
  files.forEach(line);
}

async function asUsage<T>(action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    if (error instanceof UnknownNameError) throw new UsageError(error.message);
    throw error;
  }
}
