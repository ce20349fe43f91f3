/** Results as CI systems read them: KTAP (Documentation/dev-tools/ktap.rst) and JUnit. */
import { writeFileSync } from 'node:fs';

export interface CaseReport {
  name: string;
  verdict: 'pass' | 'fail' | 'skip';
  /** The reason that it was skipped, or the result instead of the right one. */
  text?: string;
  seconds?: number;
}

export interface SuiteReport {
  name: string;
  cases: readonly CaseReport[];
}

export type ReportFormat = 'ktap' | 'junit';

/** The target of a report: a file, or standard output in place of all other output. */
export interface ReportTarget {
  format: ReportFormat;
  file: string | null;
}

/** "ktap", "junit" or "junit=FILE"; null for anything else. */
export function parseReportTarget(text: string): ReportTarget | null {
  const match = /^(ktap|junit)(?:=(.+))?$/.exec(text);
  return match === null ? null : { format: match[1] as ReportFormat, file: match[2] ?? null };
}

export async function writeReport(target: ReportTarget, name: string, suites: readonly SuiteReport[]): Promise<void> {
  const text = target.format === 'ktap' ? ktap(suites) : await junit(name, suites);
  if (target.file === null) process.stdout.write(text);
  else writeFileSync(target.file, text);
}

export function ktap(suites: readonly SuiteReport[]): string {
  const lines = ['KTAP version 1', `1..${suites.length}`];
  for (const [i, suite] of suites.entries()) {
    lines.push('  KTAP version 1', `  # Subtest: ${ktapName(suite.name)}`, `  1..${suite.cases.length}`);
    for (const [at, each] of suite.cases.entries()) lines.push(...ktapCase(each, at + 1).map((line) => `  ${line}`));
    const failed = suite.cases.some(({ verdict }) => verdict === 'fail');
    lines.push(`${failed ? 'not ok' : 'ok'} ${i + 1} ${ktapName(suite.name)}`);
  }
  return `${lines.join('\n')}\n`;
}

/** A case in KTAP. Diagnostic lines before its result explain a failure. */
function ktapCase({ name, verdict, text = '' }: CaseReport, number: number): string[] {
  const result = `${verdict === 'fail' ? 'not ok' : 'ok'} ${number} ${ktapName(name)}`;
  if (verdict === 'skip') return [`${result} # SKIP ${printable(text).split('\n')[0]}`.trimEnd()];
  const diagnostics = verdict === 'fail' && text !== '' ? printable(text).split('\n') : [];
  return [...diagnostics.map((line) => `# ${line}`), result];
}

/** A name without #, which would begin a directive. */
function ktapName(name: string): string {
  return printable(name).replaceAll('#', '').replaceAll(/\s+/g, ' ').trim();
}

/** The report in the JUnit format of CI systems. test/report/junit.xsd has its elements and attributes. */
export async function junit(name: string, suites: readonly SuiteReport[]): Promise<string> {
  const { default: XMLBuilder } = await import('fast-xml-builder');
  const builder = new XMLBuilder({ attributeNamePrefix: '@', ignoreAttributes: false, format: true });
  // The format has no number of skipped tests for the whole.
  const { skipped: _, ...counts } = junitCounts(suites.flatMap(({ cases }) => cases));
  return `<?xml version="1.0" encoding="UTF-8"?>\n${builder.build({
    testsuites: {
      '@name': printable(name),
      ...attributes(counts),
      testsuite: suites.map((suite) => ({
        '@name': printable(suite.name),
        ...attributes(junitCounts(suite.cases)),
        testcase: suite.cases.map((each) => junitCase(suite.name, each)),
      })),
    },
  })}`;
}

function junitCase(suite: string, { name, verdict, text = '', seconds = 0 }: CaseReport): object {
  const message = printable(text);
  return {
    '@name': printable(name),
    '@classname': printable(suite),
    '@time': seconds.toFixed(3),
    ...(verdict === 'fail' ? { failure: { '@message': message.split('\n')[0] || 'failed', '#text': message } } : {}),
    ...(verdict === 'skip' ? { skipped: { '@message': message } } : {}),
  };
}

function junitCounts(cases: readonly CaseReport[]) {
  const count = (wanted: CaseReport['verdict']) => cases.filter(({ verdict }) => verdict === wanted).length;
  const time = cases.reduce((sum, { seconds = 0 }) => sum + seconds, 0).toFixed(3);
  return { tests: cases.length, failures: count('fail'), errors: 0, skipped: count('skip'), time };
}

function attributes(values: Record<string, string | number>): Record<string, string> {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [`@${name}`, String(value)]));
}

/** Replaces control characters, which XML does not allow and a kernel's console may print. */
function printable(text: string): string {
  return text.replaceAll(/[^\t\n\x20-\ud7ff\ue000-\ufffd]/g, '?');
}
