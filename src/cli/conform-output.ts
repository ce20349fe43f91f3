/** What both conform commands print: progress, the table, JSON, and reports for CI systems and browsers. */
import type { Command } from 'commander';
import type { JudgedRule, Judgement } from '../report/conform.ts';
import { conformSuites, conformText } from '../report/conform.ts';
import { conformHtml } from '../report/conform-html.ts';
import { writeWhole } from './files.ts';
import { addReportOption, isQuiet, type ReportOptions, reportSuites } from './report-option.ts';
import { UsageError } from './usage.ts';

export interface OutputOptions extends ReportOptions {
  html?: string;
  group: string[];
  rule: string[];
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

/** A line on stderr: continuously on a terminal, else every ten seconds. */
export class ConformProgress {
  private readonly startedMs = Date.now();
  private shownMs = Date.now();
  private readonly unit: string;

  constructor(unit: string) {
    this.unit = unit;
  }

  show({ done, of, faults }: { done: number; of: number; faults: number }): void {
    const now = Date.now();
    const { isTTY } = process.stderr;
    if (now - this.shownMs < (isTTY ? 100 : QUIET_MS)) return;
    this.shownMs = now;
    const leftS = Math.ceil(((now - this.startedMs) / 1000 / done) * (of - done));
    const text = `${done} of ${of} ${this.unit}, ${faults} with a fault, about ${leftS} s left`;
    process.stderr.write(isTTY ? `\r\x1b[K${text}` : `${text}\n`);
  }

  clear(): void {
    if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
  }
}

/** Runs `body` with a signal that SIGINT and SIGTERM abort; sets the exit status 130 where one did. */
export async function untilSignal<T>(body: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const stop = new AbortController();
  const onSignal = (): void => stop.abort();
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const name of signals) process.on(name, onSignal);
  try {
    return await body(stop.signal);
  } finally {
    for (const name of signals) process.off(name, onSignal);
    if (stop.signal.aborted) process.exitCode = 130;
  }
}

/** Prints the judgement in the forms that the options name, and sets exit status 1 for a fault. */
export async function printJudgement(judgement: Judgement, options: OutputOptions): Promise<void> {
  await reportSuites(options, judgement.title, conformSuites(judgement));
  if (options.json === true) console.log(JSON.stringify(documentOf(judgement)));
  else if (!isQuiet(options)) console.log(conformText(judgement));
  if (judgement.rules.some(({ isFault }) => isFault)) process.exitCode ??= 1;
  if (options.html !== undefined) writeWhole(options.html, conformHtml(judgement), '--html');
}

function documentOf({ target, seconds, rules, verdicts }: Judgement) {
  const count = (wanted: string) => rules.filter(({ verdict }: JudgedRule) => verdict === wanted).length;
  return { target, seconds, counts: Object.fromEntries(verdicts.map((name) => [name, count(name)])), rules };
}
