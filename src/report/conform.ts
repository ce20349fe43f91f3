/** The judgement of a conformance kit as text and as suites for CI systems. */
import { type ExchangeEntry, entryText } from '../conform/exchange.ts';
import { paint } from './colour.ts';
import { textTable } from './table.ts';
import type { CaseReport, SuiteReport } from './test-report.ts';
import { wrapped } from './wrap.ts';

export interface JudgedTrial {
  device: string;
  verdict: string;
  text: string;
  exchange: readonly ExchangeEntry[];
  seconds: number;
}

export interface JudgedRule {
  id: string;
  group: string;
  says: string;
  chapter: string;
  verdict: string;
  /** Whether a maintainer should act. */
  isFault: boolean;
  results: readonly JudgedTrial[];
}

export interface Judgement {
  /** The command. */
  title: string;
  /** The server or client that was judged. */
  target: string;
  /** The groups' names, in order. */
  groups: Readonly<Record<string, string>>;
  /** All verdicts, worst first. */
  verdicts: readonly string[];
  /** The verdict on a rule that was not tried. */
  skipped: string;
  rules: readonly JudgedRule[];
  seconds: number;
}

/** Messages of a fault that the text shows; JSON and the page have all. */
const SHOWN_ENTRIES = 12;
/** Digits of a message that the text shows. */
const SHOWN_DIGITS = 96;

/** A table by group, then each fault with the messages that show it. */
export function conformText(judgement: Judgement): string {
  const faults = judgement.rules.filter(({ isFault }) => isFault);
  const parts = [groupTable(judgement), ...faults.map((rule) => faultText(rule)), summaryOf(judgement)];
  return parts.join('\n\n');
}

function groupTable({ groups, verdicts, rules }: Judgement): string {
  const row = (name: string, own: readonly JudgedRule[]) => [
    name,
    ...countsOf(verdicts, own).map(([, count]) => count),
  ];
  const rows = groupsOf(groups, rules).map((group) => row(group.name, group.rules));
  return textTable(['group', ...verdicts], [...rows, row('all', rules)]);
}

function faultText({ id, says, chapter, verdict, results }: JudgedRule): string {
  const lines = [`${paint('bad', verdict)} ${id}`, wrapped(`${says} (${chapter})`, 2)];
  for (const trial of results.filter((each) => each.verdict === verdict)) {
    lines.push(wrapped(`${trial.device}: ${trial.text}`, 2));
    const { exchange } = trial;
    const shown = exchange.slice(-SHOWN_ENTRIES);
    if (shown.length < exchange.length) lines.push(`    (${exchange.length - shown.length} messages before)`);
    for (const entry of shown) lines.push(`    ${cut(entryText(entry))}`);
  }
  return lines.join('\n');
}

function cut(line: string): string {
  return line.length <= SHOWN_DIGITS ? line : `${line.slice(0, SHOWN_DIGITS)}...`;
}

export function summaryOf({ rules, verdicts, seconds }: Judgement): string {
  const said = countsOf(verdicts, rules)
    .filter(([, count]) => count > 0)
    .map(([verdict, count]) => `${count} ${verdict}`);
  return `${rules.length} rules: ${said.join(', ')} (${seconds.toFixed(1)} s)`;
}

/** How many rules have each verdict. */
export function countsOf(
  verdicts: readonly string[],
  rules: readonly JudgedRule[],
): [verdict: string, count: number][] {
  return verdicts.map((verdict) => [verdict, rules.filter((rule) => rule.verdict === verdict).length]);
}

/** A suite for each group. A rule that could not be tried is skipped; a fault has its messages. */
export function conformSuites({ groups, rules, skipped }: Judgement): SuiteReport[] {
  return groupsOf(groups, rules).map((group) => ({
    name: group.name,
    cases: group.rules.map((rule) => caseOf(rule, skipped)),
  }));
}

interface RuleGroup {
  id: string;
  name: string;
  rules: readonly JudgedRule[];
}

/** The groups that have rules. */
export function groupsOf(groups: Readonly<Record<string, string>>, rules: readonly JudgedRule[]): RuleGroup[] {
  return Object.entries(groups)
    .map(([id, name]) => ({ id, name, rules: rules.filter(({ group }) => group === id) }))
    .filter((group) => group.rules.length > 0);
}

function caseOf({ id, says, verdict, isFault, results }: JudgedRule, skipped: string): CaseReport {
  const shown = results.filter((each) => each.verdict === verdict);
  return {
    name: `${id}: ${says}`,
    verdict: isFault ? 'fail' : verdict === skipped ? 'skip' : 'pass',
    text: shown.map(trialText).join('\n'),
    seconds: results.reduce((sum, each) => sum + each.seconds, 0),
  };
}

function trialText({ device, verdict, text, exchange }: JudgedTrial): string {
  return [`${device}: ${verdict}: ${text}`, ...exchange.map(entryText)].join('\n');
}
