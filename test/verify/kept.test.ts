/** Machines that are kept between runs are as those that are made anew. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Execution } from '../../src/explore/world/execution.ts';
import { KeptWorld } from '../../src/explore/world/kept-world.ts';
import type { Program } from '../../src/explore/world/program.ts';
import { TaskIds } from '../../src/explore/world/task-ids.ts';
import { PRODUCT_PROGRAMS } from '../../src/verify/product/index.ts';

/** Everything that the execution reaches, in words. Functions have no words. */
function inWords(execution: Execution): string[] {
  const numbers = new Map<object, number>();
  const lines: string[] = [];
  const left: object[] = [];
  const nameOf = (value: unknown): string => {
    if (typeof value !== 'object' || value === null) return typeof value === 'function' ? 'function' : String(value);
    let number = numbers.get(value);
    if (number === undefined) {
      number = numbers.size;
      numbers.set(value, number);
      left.push(value);
    }
    return `#${number}`;
  };
  nameOf(execution);
  for (let object = left.shift(); object !== undefined; object = left.shift()) {
    if (object instanceof KeptWorld || object instanceof TaskIds) continue;
    const line = [nameOf(object), object.constructor?.name ?? ''];
    if (ArrayBuffer.isView(object))
      line.push(Buffer.from(object.buffer, object.byteOffset, object.byteLength).toString('base64'));
    else {
      if (object instanceof Map) for (const [key, value] of object) line.push(`${nameOf(key)}=>${nameOf(value)}`);
      if (object instanceof Set) for (const value of object) line.push(nameOf(value));
      for (const [key, { value }] of Object.entries(Object.getOwnPropertyDescriptors(object))) {
        if (key !== 'kept') line.push(`${key}: ${nameOf(value)}`);
      }
    }
    lines.push(line.join(' '));
  }
  return lines;
}

/** Takes the first task that can go on; returns each step in words. */
function run(execution: Execution): string[] {
  const steps: string[] = [];
  for (;;) {
    const task = execution.order.find((one) => execution.isReady(one));
    if (task === undefined || execution.finding !== null) break;
    const op = execution.pending[task]!;
    execution.step(task);
    steps.push(
      `${task}: ${op}, ${op.object.describe()}, ${typeof execution.result === 'object' ? '' : execution.result}`,
    );
  }
  execution.finish();
  return steps;
}

function assertKept(program: Program): void {
  const fresh = new Execution(program, new TaskIds());
  const made = inWords(fresh);
  const steps = run(fresh);
  const [kept, ids] = [new KeptWorld(), new TaskIds()];
  for (let n = 0; n < 2; n++) {
    const execution = new Execution(program, ids, { kept });
    assert.deepEqual(inWords(execution), made, `${program.name}, made for the ${n + 1}. time`);
    assert.deepEqual(run(execution), steps, `${program.name}, run for the ${n + 1}. time`);
  }
}

test('a kept machine starts each run as it was made', () => {
  for (const family of PRODUCT_PROGRAMS) assertKept(family.make(family.sizes?.usual ?? 0));
});
