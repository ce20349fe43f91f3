/**
 * Results as suites for CI systems (`--report`). If a command does not end with 0, a case of its report has failed. A
 * complaint of the kernel is a case of a suite that `reportSuites` adds.
 */
import type { DiffResult } from '../../lab/diff/diff.ts';
import type { ExecOutcome } from '../../lab/host/exec-guest.ts';
import type { SuiteFile } from '../../lab/peers/suite/run.ts';
import type { LabResult } from '../../lab/runs/run.ts';
import type { SelftestSuite } from '../../lab/runs/selftests.ts';
import { parseTap, type TapResult } from '../../lab/runs/tap.ts';
import type { CaseReport, SuiteReport } from '../report/test-report.ts';
import type { MutantResult } from '../verify/mutants/run.ts';

/** A case for each step of `barter lab run`. */
export function runSuite(name: string, { steps }: Pick<LabResult, 'steps'>): SuiteReport {
  const text = (value: unknown) => (typeof value === 'string' ? value : JSON.stringify(value));
  const cases = steps.map(({ name: step, ok, ms, expected, seen }) => ({
    name: step,
    verdict: ok ? ('pass' as const) : ('fail' as const),
    seconds: ms / 1000,
    text: ok ? '' : `expected ${text(expected)}, seen ${text(seen)}`,
  }));
  return { name, cases };
}

/** A suite for each lender: a known difference is skipped, an unknown one fails. */
export function diffSuites({
  lenders,
  differences,
  violations,
}: Pick<DiffResult, 'lenders' | 'differences' | 'violations'>): SuiteReport[] {
  return lenders.map((lender) => {
    const found = [
      ...differences.map((each) => ({
        ...each,
        name: `${each.op}`,
        text: `the engine gives ${JSON.stringify(each.engine)}, the kernel ${JSON.stringify(each.kernel)}`,
      })),
      ...violations.map((each) => ({
        ...each,
        name: `${each.invariant} after ${each.triggers.join(', ')}`,
        text: each.message,
      })),
    ].filter((each) => each.lender === lender);
    const cases = found.map(({ name, finding, text }) => ({
      name,
      verdict: finding === null ? ('fail' as const) : ('skip' as const),
      text: finding === null ? text : `known as ${finding}`,
    }));
    return { name: lender, cases: [...cases, { name: 'everything else agrees', verdict: 'pass' }] };
  });
}

/** A suite for each program on each device. */
export function selftestSuites(suites: readonly Pick<SelftestSuite, 'name' | 'tests'>[]): SuiteReport[] {
  return suites.map(({ name, tests }) => ({ name, cases: tests.map(tapCase) }));
}

/** One case for the command. A program that prints TAP has one for each of its results. */
export function execSuite(
  words: readonly string[],
  { status, fault, bootMs }: Pick<ExecOutcome, 'status' | 'fault' | 'bootMs'>,
  output: { stdout: string; stderr: string },
): SuiteReport {
  const isGood = fault === null && status === 0;
  const text = fault?.message ?? `status ${status}\n${output.stdout}${output.stderr}`;
  const ends: CaseReport = {
    name: 'exits with 0',
    verdict: isGood ? 'pass' : 'fail',
    text: isGood ? '' : text,
    seconds: (bootMs ?? 0) / 1000,
  };
  const lines = output.stdout.split('\n');
  const isTap = lines.some((line) => /^(TAP version|KTAP version|1\.\.\d)/.test(line));
  const tests = isTap ? parseTap(lines, status ?? 1).map(tapCase) : [];
  // A status other than 0 that no test explains, and a fault of the guest, are failures of their own.
  const isTold = tests.length > 0 && (isGood || (fault === null && tests.some(({ verdict }) => verdict === 'fail')));
  return { name: words.join(' ') || 'a shell', cases: isTold ? tests : [...tests, ends] };
}

function tapCase({ name, verdict, reason, text }: TapResult): CaseReport {
  return { name, verdict, text: verdict === 'skip' ? reason : text };
}

/** A suite for each file of the tests. A test that differs on purpose, or cannot be run, is skipped. */
export function peerSuites(files: readonly SuiteFile[]): SuiteReport[] {
  return files.map(({ name, tests }) => ({
    name,
    cases: tests.map((test) => ({
      name: test.name,
      verdict: test.verdict === 'pass' || test.verdict === 'fail' ? test.verdict : 'skip',
      text: test.reason ?? test.failed ?? '',
    })),
  }));
}

/** Each mutant is a test, which must catch it. */
export function mutantSuite(mutants: readonly MutantResult[]): SuiteReport {
  const cases = mutants.map(({ name, scenario, invariant, caught, seconds, found }) => ({
    name: `${name} in ${scenario}`,
    verdict: caught ? ('pass' as const) : ('fail' as const),
    seconds,
    text: caught ? '' : `breaks ${invariant}, found: ${found ?? 'nothing'}`,
  }));
  return { name: 'mutants', cases };
}
