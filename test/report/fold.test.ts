/** What repeats is folded; a reader can unfold it, and loses no step that matters. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type ShownRun, type ShownStep, show } from '../../src/explore/world/schedule.ts';
import { folded, isFold } from '../../src/report/fold.ts';
import { textTimeline } from '../../src/report/timeline.ts';
import { Cell } from '../../src/task/cell.ts';
import { InvariantError } from '../../src/task/lifetime.ts';

/** A run with steps of these names. */
function runOf(names: readonly string[], failsAt: number[] = []): ShownRun {
  const steps = names.map((op, index) => ({ index, op, task: 'task', objectId: 0, source: '', activity: '' }));
  return { steps: steps as unknown as ShownStep[], failsAt } as unknown as ShownRun;
}

test('unfolded again, the steps are those of the run, and the failing ones are shown', () => {
  const names = fc.array(fc.constantFrom('a', 'b'), { maxLength: 60 });
  fc.assert(
    fc.property(names, fc.nat(59), (list, failing) => {
      const run = runOf(list, failing < list.length ? [failing] : []);
      const unfolded: string[] = [];
      const shown: number[] = [];
      for (const item of folded(run)) {
        if (!isFold(item)) {
          unfolded.push(item.op);
          shown.push(item.index);
          continue;
        }
        assert.equal(item.first, unfolded.length);
        const piece = unfolded.slice(-item.period);
        for (let i = 0; i < item.times; i++) unfolded.push(...piece);
        assert.equal(item.last, unfolded.length - 1);
      }
      assert.deepEqual(unfolded, list);
      for (const index of run.failsAt) assert.ok(shown.includes(index));
    }),
  );
});

test('a loop is its first round, its last round, and a line between them', () => {
  const program = {
    name: 'counter',
    summary: '',
    build(stage: Parameters<Parameters<typeof show>[0]['build']>[0]) {
      const count = new Cell('count', 0);
      stage.spawn(
        'counter',
        (function* () {
          for (let i = 0; i < 20; i++) yield* count.store((yield* count.load()) + 1);
          throw new InvariantError('I1', 'counted');
        })(),
      );
    },
  };
  const run = show(program, new Array(40).fill(0), { stacks: false });
  const expected = [
    '    counter',
    ' 0  read count      0',
    ' 1  write count     1',
    '    2 to 37: the 2 steps above, 18 times more',
    '38  read count      19',
    '39! write count     20',
    ' !  I1: counted',
  ];
  const text = textTimeline(run).split('\n');
  assert.deepEqual(text, expected);
  assert.ok(textTimeline(run, { columns: 24 }).includes('2 to 37:'));
});
