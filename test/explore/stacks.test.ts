/** The source places that findings show: those of the tasks, without the code that runs them. */
import assert from 'node:assert/strict';
import { relative } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { callerLine, callerStack, lineOf, withoutStacks } from '../../src/explore/world/stacks.ts';
import { PACKAGE_ROOT } from '../../src/linux/package-file.ts';
import type { Task } from '../../src/task/op.ts';
import { runner } from '../../src/task/runner.ts';

const HERE = relative(PACKAGE_ROOT, fileURLToPath(import.meta.url));

function* innermost(limit?: number): Task<string[]> {
  return callerStack(limit);
}

function* outer(limit?: number): Task<string[]> {
  return yield* innermost(limit);
}

/** The line of this call. */
function lineHere(): number {
  return Number(/:(\d+):\d+\)?$/.exec(new Error().stack!.split('\n')[2])![1]);
}

test('a stack in a task begins with the task’s own functions, innermost first, and has no frame of what runs it', () => {
  const stack = runner.run(outer());
  assert.match(stack[0], new RegExp(`^innermost ${HERE}:\\d+$`));
  assert.match(stack[1], new RegExp(`^outer ${HERE}:\\d+$`));
  for (const frame of stack) assert.doesNotMatch(frame, /(^| )(src\/(task|cli|explore)\/|node:)|node_modules/);
  assert.deepEqual(runner.run(outer(1)), stack.slice(0, 1));
});

test('a place is the line of the call', () => {
  const [line, place] = [lineHere(), callerLine()];
  assert.equal(place, `${HERE}:${line}`);
  assert.equal(lineOf(['f a.ts:1', 'b.ts:2']), 'a.ts:1');
  assert.equal(lineOf([]), '');
});

test('without stacks errors have none, and afterwards they do, also after a failure', () => {
  const frames = () => new Error('x').stack!.split('\n').length - 1;
  assert.equal(withoutStacks(frames), 0);
  assert.ok(frames() > 0);
  const fail = () => {
    throw new RangeError('x');
  };
  assert.throws(() => withoutStacks(fail), RangeError);
  assert.ok(frames() > 0);
});
