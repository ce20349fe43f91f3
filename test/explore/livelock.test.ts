/** Loops without an end: how they are told. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { exploreProgram } from '../../src/explore/explore.ts';
import { Cell } from '../../src/task/cell.ts';
import type { Task } from '../../src/task/op.ts';

/** A task that reads the cells one after the other for ever. */
function* spinOver(cells: readonly Cell<number>[]): Task {
  for (;;) for (const cell of cells) yield* cell.load();
}

async function messageOf(cells: number): Promise<string> {
  const program = {
    name: 'spinner',
    summary: '',
    build(stage: { spawn(label: string, task: Task): unknown }) {
      const all = Array.from({ length: cells }, (_, i) => new Cell(`cell ${i}`, 0));
      stage.spawn('spinner', spinOver(all));
    },
  };
  const { bug } = await exploreProgram(program, { maxSteps: 500 });
  assert.equal(bug?.invariant, 'I7');
  return bug.message;
}

test('a loop is told by its steps, and one of more than eight by the first eight of them', async () => {
  const steps = (count: number) =>
    Array.from({ length: count }, (_, i) => `spinner: read cell ${i}, now 0`).sort((a, b) => (a < b ? -1 : 1));
  for (const cells of [1, 8, 9, 12]) {
    const message = await messageOf(cells);
    const [, head, shown] = /^livelock: (\d+ steps? repeats?) for ever: (.*)$/.exec(message)!;
    assert.equal(head, cells === 1 ? '1 step repeats' : `${cells} steps repeat`);
    const told = shown.split('; ');
    if (cells > 8) assert.equal(told.pop(), `and ${cells - 8} more`);
    assert.equal(told.length, Math.min(8, cells));
    // The loop may be told from any of its steps on.
    for (const one of told) assert.ok(steps(cells).includes(one), one);
    assert.equal(new Set(told).size, told.length);
  }
});
