import assert from 'node:assert/strict';
import { test } from 'node:test';
import { firstDifference } from '../../lab/diff/compare.ts';
import type { RunResult } from '../../src/scenario/run.ts';
import type { Step, StepResult } from '../../src/scenario/step.ts';

const open: Step = { op: 'open', device: 'lender' };
const read = (offset: number, size: 1 | 2 | 4): Step => ({ op: 'cap-read', device: 'lender', cap: 0x10, offset, size });

/** Whether two results of the last step are a difference. The other steps give null. */
function differs(steps: readonly Step[], engine: number, kernel: number): boolean {
  const run = (last: number): RunResult => {
    const results: StepResult[] = steps.map((_, i) => ({ ok: i === steps.length - 1 ? last : null }));
    return { steps: results.map((result) => ({ task: 'user', op: '', result })) } as unknown as RunResult;
  };
  return firstDifference(steps, run(engine), run(kernel)) !== null;
}

test('Device Control counts byte by byte, after the program has written it since the device was opened', () => {
  assert.equal(differs([open, read(8, 2)], 0x2810, 0), false);
  assert.equal(differs([open, read(8, 4)], 0x0001_2810, 0x0000_0000), true, 'Device Status counts');
  assert.equal(differs([open, read(4, 4)], 1, 0), true, 'Device Capabilities count');
  const write: Step = { op: 'cap-write', device: 'lender', cap: 0x10, offset: 9, size: 1, value: 0x20 };
  assert.equal(differs([open, write, read(8, 2)], 0x2010, 0x2000), false);
  assert.equal(differs([open, write, read(8, 2)], 0x2010, 0x0010), true);
  assert.equal(differs([open, write, { op: 'close', device: 'lender' }, open, read(9, 1)], 0x28, 0), false);
});
