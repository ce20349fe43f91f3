/** Reads the output of a Linux selftest: TAP 13 in the form of Documentation/dev-tools/ktap.rst. */

export interface TapResult {
  name: string;
  verdict: 'pass' | 'fail' | 'skip';
  /** The reason for a skip. */
  reason: string;
  /** The test's output before its verdict. */
  text: string;
}

/**
 * Returns the results of one program. If it ends early, the next test of its plan has failed. If it plans nothing or
 * skips everything, the only result is named `all`.
 */
export function parseTap(lines: readonly string[], status: number): TapResult[] {
  const results: TapResult[] = [];
  let planned = 0;
  let text: string[] = [];
  for (const line of lines) {
    const plan = /^1\.\.(\d+)(?:\s*#\s*SKIP\s*(.*))?/i.exec(line);
    const result = /^(not )?ok \d+\s*(?:- )?(.*?)(?:\s*#\s*(SKIP|XFAIL|TODO)\b\s*(.*))?$/.exec(line);
    if (plan !== null && plan[1] === '0') return [all('skip', plan[2] ?? '', text)];
    if (plan !== null) planned = Number(plan[1]);
    else if (result !== null) {
      const [, not, name, directive, reason = ''] = result;
      const verdict = directive === 'SKIP' ? 'skip' : not === undefined || directive !== undefined ? 'pass' : 'fail';
      results.push({ name, verdict, reason, text: text.join('\n') });
      text = [];
    } else text.push(line);
  }
  if (results.length === 0) return [all(status === 4 ? 'skip' : 'fail', text.at(-1) ?? '', text)];
  if (results.length < planned) {
    const name = `test ${results.length + 1} of ${planned}`;
    results.push({ name, verdict: 'fail', reason: '', text: `ended with status ${status}\n${text.join('\n')}` });
  }
  return results;
}

function all(verdict: 'skip' | 'fail', reason: string, text: readonly string[]): TapResult {
  return { name: 'all', verdict, reason: reason.replace(/^# ?/, ''), text: text.join('\n') };
}
