/** Runs libvfio-user's own tests against Barter's server: Debian's source of QEMU has them beside the library. */
import { existsSync, readdirSync } from 'node:fs';
import { labPath } from '../../host/cache.ts';
import { WrongUse } from '../../host/command.ts';
import { LIBRARY, rootProgram } from '../peers.ts';
import { PLAN, type Plan } from './plan.ts';
import { type Interpreter, runSuiteFile, type SuiteTest } from './session.ts';

/** The folder of the tests in the lab's root. */
function suiteFolder(): string {
  return labPath('root', LIBRARY, 'test/py');
}

/** Whether the lab has the tests, and a Python that runs them. */
export function hasSuite(): boolean {
  return existsSync(suiteFolder()) && existsSync(labPath('root', 'usr/bin/python3'));
}

export interface SuiteFile {
  name: string;
  tests: SuiteTest[];
}

export interface SuiteRun {
  /** Whether each test passed, or failed as the plan says. */
  ok: boolean;
  passed: number;
  differs: number;
  failed: number;
  notPortable: number;
  files: SuiteFile[];
}

export interface SuiteOptions {
  folder?: string;
  python?: Interpreter;
  plan?: Plan;
  /** Names of files to run, such as test_dma_map; all without. */
  only?: readonly string[];
  onFile?: (file: SuiteFile) => void;
}

export async function runSuite(options: SuiteOptions = {}): Promise<SuiteRun> {
  const { folder = suiteFolder(), python = rootProgram('usr/bin/python3'), plan = PLAN, only = [], onFile } = options;
  const names = readdirSync(folder)
    .filter((name) => /^test_\w+\.py$/.test(name))
    .map((name) => name.slice(0, -'.py'.length))
    .sort();
  const unknown = only.find((name) => !names.includes(name));
  if (unknown !== undefined) throw new WrongUse(`the suite has no file ${unknown}; it has ${names.join(', ')}`);
  const files: SuiteFile[] = [];
  for (const name of names) {
    if (only.length > 0 && !only.includes(name)) continue;
    const file = { name, tests: await runSuiteFile(python, folder, name, plan) };
    files.push(file);
    onFile?.(file);
  }
  const tests = files.flatMap((file) => file.tests);
  const count = (verdict: SuiteTest['verdict']): number => tests.filter((test) => test.verdict === verdict).length;
  const failed = count('fail');
  return {
    ok: failed === 0,
    passed: count('pass'),
    differs: count('differs'),
    failed,
    notPortable: count('not-portable'),
    files,
  };
}
