/** The check finds planted mistakes at their lines, and nothing else. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { checkTasks, ProjectError } from '../../src/lint/check-tasks.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));
const folders: string[] = [];
after(() => folders.map((folder) => rmSync(folder, { recursive: true })));

const HEAD = `
import { Cell } from '${root}src/task/cell.ts';
import { Mutex } from '${root}src/task/lock.ts';
import { DONE, type Task } from '${root}src/task/op.ts';
import { Runner, spawn } from '${root}src/task/runner.ts';
declare const cell: Cell<number>;
declare const mutex: Mutex;
declare const runner: Runner;
declare const device: { open(): Task<number>; close?(): Task };
declare function generator(): Generator<number, void>;
declare function onEnd(callback: () => void): void;
let count = 0;
`;

/** Bodies of files by name. The check must find exactly the lines with `// WRONG`. */
const PLANTED: Record<string, string> = {
  forgotten: `
cell.store(1); // WRONG
void device.open(); // WRONG
device.close?.(); // WRONG
(cell.store(1)); // WRONG
count > 0 && cell.store(1); // WRONG
count > 0 ? cell.store(1) : undefined; // WRONG
count++, cell.store(1); // WRONG
generator(); // WRONG
function* twice(): Task {
  mutex.lock(); // WRONG
  yield* mutex.lock();
  twice(); // WRONG
  for (; count < 3; cell.store(count)) count++; // WRONG
}
runner.run(twice());
runner.spawn('twice', twice());
count = runner.run(device.open());
`,
  conditions: `
function* run(): Task {
  if (mutex.tryLock()) count++; // WRONG
  if (!mutex.tryLock()) count++; // WRONG
  while (cell.load()) count++; // WRONG
  count = cell.load() ? 1 : 2; // WRONG
  const both = mutex.tryLock() && true; // WRONG
  if (yield* mutex.tryLock()) count++;
  while (!(yield* mutex.tryLock())) count++;
  const task = count > 0 ? cell.load() : DONE;
  yield* task;
}
`,
  callbacks: `
[1, 2].forEach((value) => cell.store(value)); // WRONG
onEnd(() => mutex.unlock()); // WRONG
onEnd(function* () { yield* mutex.unlock(); }); // WRONG
const unlock = (): Task => mutex.unlock();
onEnd(unlock); // WRONG
onEnd(() => { count++; });
function* ok(): Task { yield* spawn('child', unlock()); }
`,
  acts: `
class Counter {
  private readonly lock = new Mutex({ name: 'lock' });
  put(): Task {
    count -= 1; // WRONG
    return count === 0 ? mutex.unlock() : DONE;
  }
  each(): Task {
    for (const one of [1]) count += one; // WRONG
    return DONE;
  }
  chooses(): Task {
    this.lock.assertHeld();
    const isLast = count === 0;
    if (isLast) return mutex.unlock();
    return DONE;
  }
}
const inPlace = (): Task => {
  count += 1; // WRONG
  return DONE;
};
`,
  awaits: `
async function open(): Promise<void> {
  const fd: unknown = await device.open(); // WRONG
  await cell.store(1); // WRONG
  await Promise.resolve(fd);
}
`,
};

/** A project with these files; returns its folder. */
function project(bodies: Record<string, string>): string {
  const folder = mkdtempSync(join(tmpdir(), 'barter-tasks-'));
  folders.push(folder);
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
  const { compilerOptions } = ts.readConfigFile(join(root, 'tsconfig.json'), ts.sys.readFile).config;
  const options = { ...compilerOptions, types: [], noUnusedLocals: false, noUnusedParameters: false };
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions: options }));
  for (const [name, body] of Object.entries(bodies)) writeFileSync(join(folder, `${name}.ts`), HEAD + body);
  return folder;
}

const wrongLines = (text: string): number[] =>
  text.split('\n').flatMap((line, i) => (line.includes('// WRONG') ? [i + 1] : []));

test('every planted mistake is found at its line, and nothing else', () => {
  const folder = project(PLANTED);
  const { findings } = checkTasks(join(folder, 'tsconfig.json'));
  for (const [name, body] of Object.entries(PLANTED)) {
    const own = findings.filter(({ file }) => file.endsWith(`/${name}.ts`));
    assert.deepEqual(
      own.map(({ line }) => line),
      wrongLines(HEAD + body),
      `${name}: ${JSON.stringify(own)}`,
    );
  }
});

test('await does not compile', () => {
  const file = join(project({ awaits: PLANTED.awaits }), 'awaits.ts');
  const program = ts.createProgram([file], {
    ...ts.convertCompilerOptionsFromJson(
      { target: 'es2023', module: 'nodenext', strict: true, allowImportingTsExtensions: true, types: [], noEmit: true },
      root,
    ).options,
  });
  const source = program.getSourceFile(file)!;
  const errors = program.getSemanticDiagnostics(source);
  const lines = errors.map(({ start }) => source.getLineAndCharacterOfPosition(start!).line + 1);
  assert.deepEqual(lines, wrongLines(source.text));
});

test('a project that cannot be checked says why', () => {
  assert.throws(() => checkTasks(join(tmpdir(), 'nowhere/tsconfig.json')), /nowhere\/tsconfig.json is not there/);
  const folder = project({});
  writeFileSync(join(folder, 'empty.ts'), 'export {};');
  rmSync(join(folder, 'node_modules'));
  assert.throws(() => checkTasks(join(folder, 'tsconfig.json')), ProjectError);
});
