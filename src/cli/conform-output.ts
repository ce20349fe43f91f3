/** What both conform commands print: progress, the table, JSON, and reports for CI systems and browsers. */
import type { Command } from 'commander';
import type { Progress } from '../conform/engine.ts';
import { END_SIGNALS } from '../linux/end-signals.ts';
import type { JudgedRule, Judgement } from '../report/conform.ts';
import { conformSuites, conformText, countsOf } from '../report/conform.ts';
import { conformHtml } from '../report/conform-html.ts';
import { demandWritable, writeWhole } from './files.ts';
import { addReportOption, isQuiet, type ReportOptions, reportSuites } from './report-option.ts';
import { UsageError } from './usage.ts';

export interface OutputOptions extends ReportOptions {
  html?: string;
  group: string[];
  rule: string[];
  timeout: number;
}

/** What a run of the trials takes from its command. */
export interface TrialOptions {
  timeoutMs: number;
  signal: AbortSignal;
  onProgress(progress: Progress): void;
}

const QUIET_MS = 10_000;
const collect = (value: string, before: string[]): string[] => [...before, value];

export function addOutputOptions(command: Command): Command {
  return addReportOption(command)
    .option('--group <name>', 'only the rules of a group (again for more)', collect, [])
    .option('--rule <id>', 'only this rule (again for more)', collect, [])
    .option('--html <file>', 'write a page with every rule and its messages')
    .option('--json', 'print one JSON document');
}

/** The rules that the options name, or all. */
export function chosen<Rule extends { id: string; group: string }>(rules: readonly Rule[], options: OutputOptions) {
  const groups = [...new Set(rules.map(({ group }) => group))];
  for (const group of options.group) {
    if (!groups.includes(group)) throw new UsageError(`there is no group ${group}; there are: ${groups.join(', ')}`);
  }
  for (const id of options.rule) {
    const [group] = id.split('.');
    const near = rules.filter((rule) => rule.group === group).map((rule) => rule.id);
    const there = near.length > 0 ? `the group has: ${near.join(', ')}` : `the groups are: ${groups.join(', ')}`;
    if (!rules.some((rule) => rule.id === id)) throw new UsageError(`there is no rule ${id}; ${there}`);
  }
  if (options.group.length + options.rule.length === 0) return rules;
  return rules.filter(({ id, group }) => options.group.includes(group) || options.rule.includes(id));
}

/** Runs the trials with progress on stderr until a signal, and prints the judgement about their rules. */
export async function judge(
  about: Omit<Judgement, 'rules' | 'seconds'>,
  options: OutputOptions,
  run: (trials: TrialOptions) => Promise<readonly JudgedRule[]>,
): Promise<void> {
  if (options.html !== undefined) demandWritable(options.html, '--html FILE');
  const progress = new ConformProgress();
  const started = performance.now();
  let rules: readonly JudgedRule[];
  try {
    rules = await untilSignal((signal) =>
      run({ timeoutMs: options.timeout, signal, onProgress: (state) => progress.show(state) }),
    );
  } finally {
    progress.clear();
  }
  await printJudgement({ ...about, rules, seconds: (performance.now() - started) / 1000 }, options);
}

/** A line on stderr: continuously on a terminal, else every ten seconds. */
class ConformProgress {
  private readonly startedMs = Date.now();
  private shownMs = Date.now();

  show({ done, of, faults }: Progress): void {
    const now = Date.now();
    const { isTTY } = process.stderr;
    if (now - this.shownMs < (isTTY ? 100 : QUIET_MS)) return;
    this.shownMs = now;
    const leftS = Math.ceil(((now - this.startedMs) / 1000 / done) * (of - done));
    const text = `${done} of ${of} trials, ${faults} with a fault, about ${leftS} s left`;
    process.stderr.write(isTTY ? `\r\x1b[K${text}` : `${text}\n`);
  }

  clear(): void {
    if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
  }
}

/** Runs `body` with a signal that END_SIGNALS abort; sets the exit status 130 where one did. */
async function untilSignal<T>(body: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const stop = new AbortController();
  const onSignal = (): void => stop.abort();
  for (const name of END_SIGNALS) process.on(name, onSignal);
  try {
    return await body(stop.signal);
  } finally {
    for (const name of END_SIGNALS) process.off(name, onSignal);
    if (stop.signal.aborted) process.exitCode = 130;
  }
}

/** Prints the judgement in the forms that the options name, and sets exit status 1 for a fault. */
async function printJudgement(judgement: Judgement, options: OutputOptions): Promise<void> {
  await reportSuites(options, judgement.title, conformSuites(judgement));
  if (options.json === true) console.log(JSON.stringify(documentOf(judgement)));
  else if (!isQuiet(options)) console.log(conformText(judgement));
  if (judgement.rules.some(({ isFault }) => isFault)) process.exitCode ??= 1;
  if (options.html !== undefined) writeWhole(options.html, conformHtml(judgement), '--html');
}

function documentOf({ target, seconds, rules, verdicts }: Judgement) {
  return { target, seconds, counts: Object.fromEntries(countsOf(verdicts, rules)), rules };
}
