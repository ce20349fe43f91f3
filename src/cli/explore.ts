/** barter explore. */
import { renameSync, writeFileSync } from 'node:fs';
import type { Command } from 'commander';
import type { ExploreProgress, ExploreResult } from '../explore/explore.ts';
import type { ResumeFile } from '../explore/parallel/resume.ts';
import { ALGORITHMS, type Algorithm } from '../explore/spec.ts';
import { htmlTimeline } from '../report/html.ts';
import { statementOf } from '../report/invariant.ts';
import type { ReportTarget, SuiteReport } from '../report/test-report.ts';
import { textTimeline } from '../report/timeline.ts';
import { explore, replayFileOf, runOf } from '../verify/explore.ts';
import { listMutants, type MutantResult, runMutants } from '../verify/mutants/run.ts';
import { asUsage, readJson } from './files.ts';
import { addReportOption, isQuiet, reportSuites } from './report-option.ts';
import { declareCommand } from './summaries.ts';
import { UsageError } from './usage.ts';

interface ExploreFlags {
  algorithm: string;
  mutant?: string;
  mutants?: boolean;
  bound?: number;
  seed: number;
  max?: number;
  workers?: number;
  save?: string;
  resume?: string;
  html?: string;
  replayFile?: string;
  json?: true;
  report?: ReportTarget;
}

export function addExploreCommand(program: Command): void {
  addReportOption(declareCommand(program, 'explore'))
    .argument('[scenario]')
    .option('--algorithm <name>', ALGORITHMS.join(', '), 'optimal')
    .option('--mutant <name>', 'with a known bug put back')
    .option('--mutants', 'every mutant on its scenario: each must be caught')
    .option('--bound <n>', 'only orders with at most n preemptions, depth first', count)
    .option('--seed <n>', 'for pct, pos and random', count, 1)
    .option('--max <n>', 'stop after n executions', count)
    .option('--workers <n>', 'threads that search; what comes out does not depend on it (default: 1)', atLeastOne)
    .option('--save <file>', 'where to write what is needed to go on (default: SCENARIO.resume.json, when stopped)')
    .option('--resume <file>', 'go on with a search that was stopped')
    .option('--html <file>', 'write the run of a bug as a page')
    .option('--replay-file <file>', 'where the replay file of a bug goes (default: SCENARIO.replay.json)')
    .option('--json', 'one JSON document')
    .addHelpText('after', EXPLORE_EXAMPLES)
    .action(exploreCommand);
}

const EXPLORE_EXAMPLES = `
Examples:
  barter explore revoke-vs-map                        every interleaving of a revoke and a map
  barter explore lastzero:10 --algorithm source       a classic, with the older reduction
  barter explore revoke:2 --mutant classic-no-drain   a known bug, its shortest schedule, a replay file
  barter explore --mutants                            every known bug
  barter explore revoke-vs-map:4 --workers 2          a long search, on two cores; stop it with Ctrl-C, then
  barter explore --resume revoke-vs-map-4.resume.json to go on, with the same totals in the end
  barter explore revoke:5 --algorithm stateful        states instead of orders, where they can be compared
  barter explore ./mine.ts:transfer                   a program of your own (docs/exploring-your-own-code.md)

stateful enters no state twice: for programs that say how their states compare (Stage.comparesBy; all classics do). Its
counts are of states and of runs between them, not of orders, and what only a whole order shows (touches that nothing
orders) it looks for along its own runs alone. Complete, it has seen every state, every deadlock and every failed check.
Ctrl-C stops a search and leaves a file for --resume. With --save it is also written every half minute, and after --max.
Exit status: 0 nothing found, 1 a bug was found (or a mutant was not), 2 wrong usage, 130 stopped.`;

function count(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 0) throw new UsageError(`${text} is no count`);
  return value;
}

function atLeastOne(text: string): number {
  const value = count(text);
  if (value < 1 || value > 64) throw new UsageError(`${text}: from 1 to 64 threads can search`);
  return value;
}

async function exploreCommand(scenario: string | undefined, flags: ExploreFlags): Promise<void> {
  if (flags.mutants === true) return mutantsCommand(flags);
  const resume = flags.resume === undefined ? null : readResume(flags.resume);
  if (resume === null) checkNames(scenario, flags);
  const { mutant, bound, max, seed, workers } = flags;
  const stop = new AbortController();
  const onInterrupt = (): void => stop.abort();
  process.once('SIGINT', onInterrupt);
  const isShown = process.stderr.isTTY && flags.json !== true;
  const result = await asUsage(() =>
    explore({
      scenario: scenario ?? '',
      algorithm: flags.algorithm as Algorithm,
      seed,
      signal: stop.signal,
      ...(mutant === undefined ? {} : { mutant }),
      ...(bound === undefined ? {} : { bound }),
      ...(max === undefined ? {} : { max }),
      ...(workers === undefined ? {} : { workers }),
      ...(resume === null ? {} : { resume }),
      ...(isShown ? { onProgress: showProgress } : {}),
      ...(flags.save === undefined ? {} : { onSave: (file) => writeResume(flags.save!, file) }),
    }),
  );
  process.off('SIGINT', onInterrupt);
  if (isShown) process.stderr.write('\r\x1b[K');
  if (flags.json === true) console.log(JSON.stringify(withoutNumbers(result)));
  else print(result);
  if (result.resume !== null) leaveResume(result.resume, stop.signal.aborted, flags);
  if (stop.signal.aborted && result.bug === null && !result.complete) process.exitCode = 130;
  showBug(result, flags);
}

function checkNames(scenario: string | undefined, flags: ExploreFlags): void {
  if (scenario === undefined) throw new UsageError('explore wants a scenario; barter scenarios lists them');
  if (!(ALGORITHMS as readonly string[]).includes(flags.algorithm)) {
    throw new UsageError(`there is no algorithm ${flags.algorithm}; there are ${ALGORITHMS.join(', ')}`);
  }
  if (flags.algorithm === 'stateful' && [flags.workers, flags.save, flags.bound].some((flag) => flag !== undefined)) {
    throw new UsageError('a stateful search has one thread, no bound, and cannot be gone on with');
  }
  if (flags.mutant !== undefined && !listMutants().includes(flags.mutant)) {
    throw new UsageError(`there is no mutant ${flags.mutant}; there are ${listMutants().join(', ')}`);
  }
}

/** Stopped by hand, a search always leaves a file; otherwise only where one was asked for. */
function leaveResume(file: ResumeFile, wasStopped: boolean, flags: ExploreFlags): void {
  const path = flags.save ?? flags.resume ?? `${fileNameOf(file.spec.scenario)}.resume.json`;
  if (!wasStopped && flags.save === undefined) return;
  writeResume(path, file);
  if (flags.json !== true) console.log(`Go on with it: barter explore --resume ${path}`);
}

function writeResume(path: string, file: ResumeFile): void {
  writeFileSync(`${path}.new`, `${JSON.stringify(file)}\n`);
  renameSync(`${path}.new`, path);
}

function fileNameOf(scenario: string): string {
  return scenario.replace(/^.*\//, '').replaceAll(':', '-');
}

function showBug(result: ExploreResult, flags: ExploreFlags): void {
  if (result.bug === null) return;
  process.exitCode = 1;
  const file = replayFileOf(result);
  if (file === null) return;
  const path = flags.replayFile ?? `${fileNameOf(result.scenario)}.replay.json`;
  writeFileSync(path, `${JSON.stringify(file)}\n`);
  const run = runOf(file.scenario, file.mutant, file.steps);
  if (flags.html !== undefined) writeFileSync(flags.html, htmlTimeline(run, file.mutant));
  if (flags.json === true) return;
  console.log(`\n${textTimeline(run)}\n\nRun it again: barter replay ${path}`);
}

/** Without what is only for files. */
function withoutNumbers({ resume: _resume, ...result }: ExploreResult): object {
  if (result.bug === null) return result;
  const { steps: _steps, ...bug } = result.bug;
  return { ...result, bug };
}

function print(result: ExploreResult): void {
  const { scenario, algorithm, executions, blocked, steps, states, seconds, complete, bug } = result;
  const rate = Math.round(steps / Math.max(seconds, 1e-3));
  const seen = states === null ? '' : `${states} states, `;
  console.log(`${scenario} (${algorithm}): ${seen}${executions} executions, ${blocked} blocked, ${steps} steps`);
  console.log(`${seconds.toFixed(2)} s, ${rate} steps/s; ${complete ? 'complete' : 'not complete'}`);
  if (bug === null) console.log('no invariant was broken');
  else {
    const stated = statementOf(bug.invariant);
    console.log(`${bug.message}${stated === null ? '' : ` (${stated})`}`);
    console.log(`${bug.preemptions} preemptions, ${bug.schedule.length} steps`);
  }
}

function showProgress({ executions, total, seconds, done }: ExploreProgress): void {
  const left = (): string => `${(done * 100).toFixed(1)} %, about ${inWords((seconds / done) * (1 - done))} left`;
  const share = done > 0 ? ` of perhaps ${total}, ${left()}` : '';
  process.stderr.write(`\r${executions} executions${share} (Ctrl-C stops)\x1b[K`);
}

function inWords(seconds: number): string {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

async function mutantsCommand(flags: ExploreFlags): Promise<void> {
  const total = listMutants().length;
  let done = 0;
  const onTerminal = process.stderr.isTTY && !isQuiet(flags);
  if (!isQuiet(flags)) console.log(MUTANT_HEAD);
  const mutants = await runMutants((result) => {
    done += 1;
    if (isQuiet(flags)) return;
    if (onTerminal) process.stderr.write('\r\x1b[K');
    console.log(mutantLine(result));
    if (onTerminal && done < total) process.stderr.write(`${done} of ${total}`);
  });
  const missed = mutants.filter((mutant) => !mutant.caught).length;
  await reportSuites(flags, 'barter explore --mutants', [mutantSuite(mutants)]);
  if (flags.json === true) console.log(JSON.stringify({ mutants }));
  else if (!isQuiet(flags)) console.log(missed === 0 ? `all ${total} caught` : `${missed} of ${total} MISSED`);
  if (mutants.some((mutant) => !mutant.caught)) process.exitCode = 1;
}

/** Mutants as CI systems see them: each is a test that must catch it. */
function mutantSuite(mutants: readonly MutantResult[]): SuiteReport {
  const cases = mutants.map(({ name, scenario, invariant, caught, seconds, found }) => ({
    name: `${name} in ${scenario}`,
    verdict: caught ? ('pass' as const) : ('fail' as const),
    seconds,
    text: caught ? '' : `breaks ${invariant}, found: ${found ?? 'nothing'}`,
  }));
  return { name: 'mutants', cases };
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

function readResume(path: string): ResumeFile {
  const file = readJson(path) as ResumeFile;
  const isWhole = file.barter === 'resume' && typeof file.state === 'object' && typeof file.spec === 'object';
  if (!isWhole) throw new UsageError(`${path} is no resume file`);
  return file;
}
