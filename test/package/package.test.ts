/** The npm package as users get it: each test runs the packed and installed package, not the sources. */
import assert from 'node:assert/strict';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { missingStages } from '../../lab/host/prepare.ts';
import { SUMMARIES } from '../../src/cli/summaries.ts';
import { Installed, nodeOfVersion, ROOT, run, succeed } from './installed.ts';

const installed = new Installed();
after(() => installed.remove());

const ENTRIES = ['barter', 'barter/tasks', 'barter/explore', 'barter/device', 'barter/client', 'barter/machine'];
const COMMANDS = Object.keys(SUMMARIES);

test('npm installs these packages with it, and no others', () => {
  const { dependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  const wanted = [
    '@bomb.sh/tab',
    'commander',
    'fast-png',
    'fast-xml-builder',
    'koffi',
    'pino',
    'prom-client',
    'yaml',
    'zod',
  ];
  assert.deepEqual(Object.keys(dependencies).sort(), wanted);
});

/** A plain JavaScript program that uses every entry, and lends and revokes a buffer. */
const PROGRAM = `
import { Runner } from 'barter/tasks';
import { buildMachine, buildVfioDevices, loadMachine } from 'barter/machine';
for (const entry of ${JSON.stringify(ENTRIES)}) {
  if (Object.keys(await import(entry)).length === 0) throw new Error(entry);
}
const machine = buildMachine(loadMachine(process.argv[2]));
console.log([...buildVfioDevices(machine.functions).keys()].join(' '), typeof Runner);
`;

for (const major of [20, 22, 24]) {
  test(`plain JavaScript imports it on Node ${major}`, () => {
    const own = Number(process.versions.node.split('.')[0]) === major;
    const node = own ? process.execPath : nodeOfVersion(major, installed.folder);
    assert.match(succeed(node, ['--version']), new RegExp(`^v${major}\\.`));
    const path = join(installed.folder, 'program.mjs');
    writeFileSync(path, PROGRAM);
    const machine = join(installed.folder, 'node_modules/barter/examples/two-peers.yaml');
    assert.equal(succeed(node, [path, machine]), 'lender borrower function\n');
    assert.equal(installed.barter(['demo', '--json'], node).status, 0);
  });
}

const STRICT = {
  compilerOptions: {
    target: 'es2022',
    module: 'nodenext',
    strict: true,
    noEmit: true,
    skipLibCheck: false,
    exactOptionalPropertyTypes: true,
    noUncheckedIndexedAccess: true,
    noPropertyAccessFromIndexSignature: true,
    types: ['node'],
  },
  files: ['user.mts'],
};

test('a strict TypeScript project compiles against it, its own declarations included', () => {
  installed.add('typescript@5', '@types/node@20');
  const imports = ENTRIES.map((entry, i) => `import * as entry${i} from '${entry}';\nconsole.log(entry${i});`);
  const use = `
import { Cell, type Task } from 'barter/tasks';
class Counter {
  private readonly count = new Cell('count', 0);
  *add(): Task<number> {
    const next = (yield* this.count.load()) + 1;
    yield* this.count.store(next);
    return next;
  }
}
export const counter = new Counter();
// @ts-expect-error: a task does not give a string.
export const wrong: Task<string> = counter.add();
`;
  writeFileSync(join(installed.folder, 'user.mts'), `${imports.join('\n')}\n${use}`);
  writeFileSync(join(installed.folder, 'tsconfig.json'), JSON.stringify(STRICT));
  succeed(join(installed.folder, 'node_modules/.bin/tsc'), ['-p', '.'], { cwd: installed.folder });
});

test('publint and attw find nothing', () => {
  succeed(join(ROOT, 'node_modules/.bin/publint'), [installed.tarball, '--strict']);
  succeed(join(ROOT, 'node_modules/.bin/attw'), [installed.tarball], { cwd: ROOT });
});

test('every command has help, and the commands work in a folder that may not be written to, not as root', () => {
  for (const command of COMMANDS) assert.equal(installed.barter([command, '--help']).status, 0, command);
  assert.equal(installed.barter(['explore', 'revoke-vs-map', '--workers', '2']).status, 0);
  assert.equal(installed.barter(['run', 'memory-bit']).status, 0);
  assert.equal(installed.barter(['inspect', 'examples/two-peers.yaml']).status, 0);
  const bench = installed.barter(['bench', 'engine', '--json']);
  assert.ok(JSON.parse(bench.stdout).results.length > 0, bench.stderr);
});

const missing = missingStages();
/** As in test/lab: CI prepares the lab. Elsewhere the user must do that, since it takes minutes and root. */
const skip =
  missing.length > 0 && process.env.CI !== 'true'
    ? `the lab is not prepared (${missing.join(', ')}): barter lab prepare`
    : false;

interface LabDocument {
  /** The steps of a run, or the number of compared ones. */
  steps: number | unknown[];
  differences?: { finding: string | null }[];
}

/** Runs as this user, who has prepared the lab, in a read-only folder. */
function lab(...args: string[]): LabDocument {
  const cwd = join(installed.folder, 'node_modules');
  return JSON.parse(succeed(process.execPath, [installed.bin, 'lab', ...args, '--json'], { cwd }));
}

test('the installed lab boots a kernel, and compares with it', { skip, timeout: 1_200_000 }, () => {
  const { steps } = lab('run', 'guest-export');
  assert.ok(Array.isArray(steps) && steps.length > 30);
  const { steps: compared, differences = [] } = lab('diff', '--steps', '0');
  assert.ok(Number(compared) > 900, `${compared} steps`);
  assert.deepEqual(
    differences.filter(({ finding }) => finding === null),
    [],
  );
});

test('a program of a user is explored where tsx is, and where it is not the error says so', () => {
  const source = readFileSync(join(ROOT, 'examples/explore/request.ts'), 'utf8');
  writeFileSync(join(installed.folder, 'request.ts'), source);
  const explore = () =>
    run(process.execPath, [installed.bin, 'explore', '../request.ts:request', '--workers', '2'], {
      cwd: installed.home,
      env: installed.env,
      asNobody: true,
    });
  const takesTypes = Boolean((process.features as { typescript?: unknown }).typescript);
  if (!takesTypes) {
    const before = explore();
    assert.equal(before.status, 2, before.stderr);
    assert.match(before.stderr, /^barter: \.\.\/request\.ts: .*npm install --save-dev tsx\n$/);
  }
  installed.add('tsx');
  const { status, stdout, stderr } = explore();
  assert.equal(status, 0, stderr);
  assert.match(stdout, /3 executions/);
});

test('nothing was written into the package', () => {
  const stamp = statSync(join(installed.folder, 'node_modules/barter')).mtimeMs;
  assert.equal(installed.barter(['--version']).status, 0);
  assert.equal(statSync(join(installed.folder, 'node_modules/barter')).mtimeMs, stamp);
});
