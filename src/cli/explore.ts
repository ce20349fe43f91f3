/** barter explore. */
import type { Command } from 'commander';
import type { ExploreOptions, ExploreProgress, ExploreResult } from '../explore/explore.ts';
import type { ResumeFile } from '../explore/parallel/resume.ts';
import { ALGORITHMS, type Algorithm, isSampling } from '../explore/spec.ts';
import { paint } from '../report/colour.ts';
import { htmlTimeline } from '../report/html.ts';
import { statementOf } from '../report/invariant.ts';
import { beside, columns, hang } from '../report/lines.ts';
import type { ReportTarget } from '../report/test-report.ts';
import { textTimeline } from '../report/timeline.ts';
import { explore, replayFileOf, runOf } from '../verify/explore.ts';
import { listMutants, type MutantResult, runMutants } from '../verify/mutants/run.ts';
import type { LivePage } from '../web/live-page.ts';
import type { SearchPage } from '../web/search-page.ts';
import { asUsage } from './explore-errors.ts';
import { readJson, writeWhole } from './files.ts';
import { addHttpOption, keepPage, openPage } from './http-option.ts';
import { addReportOption, isQuiet, reportSuites } from './report-option.ts';
import { mutantSuite } from './suites.ts';
import { declareCommand } from './summaries.ts';
import { integer, known, UsageError } from './usage.ts';

interface ExploreFlags {
  algorithm: string;
  mutant?: string;
  mutants?: boolean;
  bound?: number;
  seed: number;
  max?: number;
  everyOrder?: true;
  workers?: number;
  queue?: string;
  save?: string;
  resume?: string;
  html?: string;
  http?: string;
  replayFile?: string;
  json?: true;
  report?: ReportTarget;
}

export function addExploreCommand(program: Command): void {
  addHttpOption(addReportOption(declareCommand(program, 'explore')), 'show the search on a live page, and its bug')
    .argument('[scenario]')
    .option('--algorithm <name>', ALGORITHMS.join(', '), 'optimal')
    .option('--mutant <name>', 'with a known bug put back')
    .option('--mutants', 'every mutant on its scenario: each must be caught')
    .option('--bound <n>', 'only orders with at most n preemptions, depth first', integer(0))
    .option('--seed <n>', 'for pct, pos and random', integer(0), 1)
    .option('--every-order', 'also the orders that only exchange tasks that the program declares alike')
    .option('--max <n>', 'stop after n executions', integer(0))
    .option('--workers <n>', 'threads that search; what comes out does not depend on it (default: 1)', integer(1, 64))
    .option('--queue <url>', 'let the workers of a queue search: redis://HOST (docs/many-machines.md)')
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
  barter explore revoke-vs-map:4 --queue redis://HOST by all workers of a queue, on any machines
  barter explore revoke:5 --algorithm stateful        states instead of orders, where they can be compared
  barter explore revoke-vs-map:4 --http 8080          the search on a live page; a bug opens its timeline
  barter explore ./mine.ts:transfer                   a program of your own (docs/exploring-your-own-code.md)

stateful enters no state twice: for programs that say how their states compare (Stage.comparesBy; all classics do). Its
counts are of states and of runs between them, not of orders, and what only a whole order shows (touches that nothing
orders) it looks for along its own runs alone. Complete, it has seen every state, every deadlock and every failed check.
Ctrl-C stops a search and leaves a file for --resume. With --save it is also written every half minute, and after --max.
Exit status: 0 nothing found, 1 a bug was found (or a mutant was not), 2 wrong usage, 130 stopped.`;

async function exploreCommand(scenario: string | undefined, flags: ExploreFlags): Promise<void> {
  if (flags.mutants === true && flags.http !== undefined)
    throw new UsageError('--http shows one search, not --mutants');
  if (flags.mutants === true) return mutantsCommand(flags);
  const resume = flags.resume === undefined ? null : readResume(flags.resume);
  if (resume === null) checkNames(scenario, flags);
  else if (flags.queue !== undefined) throw new UsageError('a search of a queue goes on by itself, without --resume');
  const page = await openPage(flags.http);
  const shown = page === null ? null : await searchPage(page, resume?.spec ?? { ...flags, scenario: scenario! });
  const stop = new AbortController();
  const onInterrupt = (): void => stop.abort();
  process.once('SIGINT', onInterrupt);
  const isShown = process.stderr.isTTY && flags.json !== true;
  const onProgress = (progress: ExploreProgress): void => {
    if (isShown) showProgress(progress);
    shown?.progress(progress);
  };
  const result = await asUsage(() => searched(scenario, resume, flags, stop.signal, onProgress)).finally(() =>
    process.off('SIGINT', onInterrupt),
  );
  if (isShown) process.stderr.write('\r\x1b[K');
  if (flags.json === true) console.log(JSON.stringify(withoutNumbers(result)));
  else print(result);
  if (result.resume !== null) leaveResume(result.resume, stop.signal.aborted, flags);
  if (stop.signal.aborted && result.bug === null && !result.complete) process.exitCode = 130;
  showBug(result, flags, shown);
  await keepPage(page);
}

async function searchPage(
  page: LivePage,
  { scenario, algorithm, mutant = null }: { scenario: string; algorithm: string; mutant?: string | null },
): Promise<SearchPage> {
  const { SearchPage } = await import('../web/search-page.ts');
  return new SearchPage(page, `${scenario} (${algorithm})${mutant === null ? '' : ` with ${mutant}`}`);
}

/** Searches in this process, or has the workers of a queue do it. */
async function searched(
  scenario: string | undefined,
  resume: ResumeFile | null,
  flags: ExploreFlags,
  signal: AbortSignal,
  onProgress: (progress: ExploreProgress) => void,
): Promise<ExploreResult> {
  const { mutant, bound, max, seed, workers, queue, everyOrder } = flags;
  const options: ExploreOptions = {
    scenario: scenario ?? '',
    algorithm: flags.algorithm as Algorithm,
    seed,
    signal,
    ...(mutant === undefined ? {} : { mutant }),
    ...(bound === undefined ? {} : { bound }),
    ...(max === undefined ? {} : { max }),
    ...(everyOrder === undefined ? {} : { everyOrder }),
    onProgress,
  };
  if (queue !== undefined) return (await import('./queue-explore.ts')).exploreByQueue(queue, options);
  return explore({
    ...options,
    ...(workers === undefined ? {} : { workers }),
    ...(resume === null ? {} : { resume }),
    ...(flags.save === undefined ? {} : { onSave: (file) => writeResume(flags.save!, file) }),
  });
}

function checkNames(scenario: string | undefined, flags: ExploreFlags): void {
  if (scenario === undefined) throw new UsageError('explore wants a scenario; barter scenarios lists them');
  const algorithm = known('algorithm', flags.algorithm, ALGORITHMS);
  if (algorithm === 'stateful' && [flags.workers, flags.save, flags.bound].some((flag) => flag !== undefined)) {
    throw new UsageError('a stateful search has one thread, no bound, and cannot be gone on with');
  }
  if (
    flags.queue !== undefined &&
    [flags.workers, flags.save, isSampling(algorithm) ? undefined : flags.max].some((flag) => flag !== undefined)
  ) {
    throw new UsageError(
      'a search of a queue has no --workers and no --save, and --max only for pct, pos and random; ' +
        'the queue itself keeps what was done',
    );
  }
  if (flags.mutant !== undefined && !listMutants().includes(flags.mutant)) {
    throw new UsageError(`there is no mutant ${flags.mutant}; barter explore --mutants tries and lists them all`);
  }
}

/** Writes the file to resume from: always for a search stopped by hand, else only on request. */
function leaveResume(file: ResumeFile, wasStopped: boolean, flags: ExploreFlags): void {
  const path = flags.save ?? flags.resume ?? `${fileNameOf(file.spec.scenario)}.resume.json`;
  if (!wasStopped && flags.save === undefined) return;
  writeResume(path, file);
  if (flags.json !== true) console.log(`Go on with it: barter explore --resume ${path}`);
}

function writeResume(path: string, file: ResumeFile): void {
  writeWhole(path, `${JSON.stringify(file)}\n`, '--save');
}

function fileNameOf(scenario: string): string {
  return scenario.replace(/^.*\//, '').replaceAll(':', '-');
}

/** Prints the run of a bug, shows it on the page, and then writes its files. */
function showBug(result: ExploreResult, flags: ExploreFlags, page: SearchPage | null): void {
  if (result.bug !== null) process.exitCode = 1;
  const file = result.bug === null ? null : replayFileOf(result);
  const run = file === null ? null : runOf(file.scenario, file.mutant, file.steps);
  page?.ended(result, run);
  if (file === null || run === null) return;
  if (flags.json !== true) console.log(`\n${withFailures(textTimeline(run, { columns: columns() }))}`);
  const path = flags.replayFile ?? `${fileNameOf(result.scenario)}.replay.json`;
  if (flags.html !== undefined) tried(() => writeWhole(flags.html!, htmlTimeline(run, file.mutant), '--html'));
  const written = tried(() => writeWhole(path, `${JSON.stringify(file)}\n`, '--replay-file'));
  if (written && flags.json !== true) console.log(`\nRun it again: barter replay ${path}`);
}

/** Prints the error of a file that cannot be written; the bug still sets the exit status. */
function tried(write: () => void): boolean {
  try {
    write();
    return true;
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    console.error(`barter: ${error.message}`);
    return false;
  }
}

/** Highlights failing steps and the finding. */
function withFailures(timeline: string): string {
  return timeline.replace(/^ *\d*! .*$/gm, (line) => paint('bad', line));
}

/** The result without the data that are only for files. */
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
  if (bug === null) {
    console.log(paint('good', 'no invariant was broken'));
    return;
  }
  const stated = statementOf(bug.invariant);
  console.log(paint('bad', hang(`${bug.message}${stated === null ? '' : ` (${stated})`}`, 2)));
  console.log(`${counted(bug.preemptions, 'preemption')}, ${counted(bug.schedule.length, 'step')}`);
}

function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
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
  else if (!isQuiet(flags)) {
    console.log(missed === 0 ? paint('good', `all ${total} caught`) : paint('bad', `${missed} of ${total} MISSED`));
  }
  if (mutants.some((mutant) => !mutant.caught)) process.exitCode = 1;
}

const MUTANT_HEAD = `${'mutant'.padEnd(28)} ${'breaks'.padEnd(7)}   sec steps  pre  in`;

/** `pre`: the number of preemptions in the shortest schedule. */
function mutantLine(result: MutantResult): string {
  const { name, invariant, scenario, caught, seconds, schedule, preemptions, found } = result;
  const what = `${name.padEnd(28)} ${invariant.padEnd(6)} ${seconds.toFixed(2).padStart(6)}`;
  if (!caught)
    return beside(`${what}  ${paint('bad', 'MISSED')}`, `${scenario}${found === null ? '' : `, but ${found}`}`, 30);
  return beside(`${what} ${String(schedule.length).padStart(5)} ${String(preemptions).padStart(4)}`, scenario, 30);
}

function readResume(path: string): ResumeFile {
  const file = readJson(path) as ResumeFile;
  const isWhole = file.barter === 'resume' && typeof file.state === 'object' && typeof file.spec === 'object';
  if (!isWhole) throw new UsageError(`${path} is not a resume file; barter explore leaves one when it is stopped`);
  return file;
}
