/** The checks of reports for CI systems: JUnit by its schema, KTAP by the rules of Documentation/dev-tools/ktap.rst. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { validateXML } from 'xmllint-wasm';

const SCHEMA = readFileSync(new URL('./junit.xsd', import.meta.url), 'utf8');

/** The first errors of documents that the schema does not allow. */
export async function junitErrors(reports: readonly string[]): Promise<string[]> {
  const xml = reports.map((contents, i) => ({ fileName: `${i}.xml`, contents }));
  const { valid, errors } = await validateXML({ xml, schema: SCHEMA });
  assert.equal(valid, errors.length === 0);
  return errors.map(({ rawMessage }) => rawMessage).slice(0, 5);
}

const RESULT = /^(not )?ok (\d+)(?: ([^#]*?))?(?: # (SKIP)(?: (.*))?)?$/;

/**
 * Reads a report of one level of suites strictly: a version line, a plan, and as many results as it says, numbered from
 * 1. A suite is a subtest, two spaces in, before its own result, which is `not ok` exactly if a case of it is. Returns
 * the number of cases by their verdicts.
 */
export function checkKtap(report: string): Record<'pass' | 'fail' | 'skip', number> {
  assert.ok(report.endsWith('\n') && !report.includes('\r'));
  const lines = report.slice(0, -1).split('\n');
  const counts = { pass: 0, fail: 0, skip: 0 };
  const next = (): string => lines.shift() ?? assert.fail('the report ends early');
  const result = (line: string, number: number): RegExpExecArray => {
    const match = RESULT.exec(line) ?? assert.fail(`not a result: ${line}`);
    assert.equal(Number(match[2]), number, line);
    return match;
  };
  const plan = (line: string): number => Number(/^1\.\.(\d+)$/.exec(line)?.[1] ?? assert.fail(`not a plan: ${line}`));
  const inner = (line: string): string => (line.startsWith('  ') ? line.slice(2) : assert.fail(`not inside: ${line}`));
  assert.equal(next(), 'KTAP version 1');
  const suites = plan(next());
  for (let suite = 1; suite <= suites; suite += 1) {
    assert.equal(inner(next()), 'KTAP version 1');
    const [, title] = /^# Subtest: (.*)$/.exec(inner(next())) ?? assert.fail(`suite ${suite} has no name`);
    const cases = plan(inner(next()));
    let isGood = true;
    for (let number = 1; number <= cases; number += 1) {
      let line = inner(next());
      while (line.startsWith('#')) line = inner(next());
      const [, not, , , skip] = result(line, number);
      counts[skip !== undefined ? 'skip' : not !== undefined ? 'fail' : 'pass'] += 1;
      isGood &&= not === undefined;
    }
    const [, not, , name = ''] = result(next(), suite);
    assert.equal(not === undefined, isGood, title);
    assert.equal(name, title.trim());
  }
  assert.deepEqual(lines, []);
  return counts;
}
