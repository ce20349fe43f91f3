/** The life cycle of device models: the order of calls, and an exception for a call out of order. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Lifecycle } from '../../src/pci/lifecycle.ts';
import { Cell } from '../../src/task/cell.ts';
import { runner } from '../../src/task/runner.ts';

function lifecycleOf(names: readonly string[], calls: string[]): Lifecycle {
  const lifecycle = new Lifecycle('device');
  for (const name of names) {
    lifecycle.add({
      onReset: () => calls.push(`reset ${name}`),
      *quiesce() {
        calls.push(`quiesce ${name}`);
      },
      *resume() {
        calls.push(`resume ${name}`);
      },
      saveState: () => Buffer.from(name),
      loadState: (bytes) => calls.push(`load ${name} ${Buffer.from(bytes)}`),
    });
  }
  return lifecycle;
}

test('models are called in the order in which they were added', () => {
  const calls: string[] = [];
  const lifecycle = lifecycleOf(['a', 'b'], calls);
  lifecycle.plug();
  lifecycle.reset();
  runner.run(lifecycle.quiesce());
  const saved = lifecycle.save();
  lifecycle.load(saved);
  runner.run(lifecycle.resume());
  assert.deepEqual(calls, [
    'reset a',
    'reset b',
    'quiesce a',
    'quiesce b',
    'load a a',
    'load b b',
    'resume a',
    'resume b',
  ]);
  assert.throws(() => lifecycle.load(new Map()), /I10/);
});

test('any order of calls: those that keep the rules happen, all others throw and change nothing', () => {
  const step = fc.constantFrom('quiesce', 'resume', 'save', 'load', 'reset', 'add', 'plug');
  fc.assert(
    fc.property(fc.array(step, { maxLength: 12 }), (steps) => {
      const calls: string[] = [];
      const lifecycle = lifecycleOf(['a'], calls);
      let held = 0;
      let plugged = false;
      for (const name of steps) {
        const before = calls.length;
        const run: Record<string, () => unknown> = {
          quiesce: () => runner.run(lifecycle.quiesce()),
          resume: () => runner.run(lifecycle.resume()),
          save: () => lifecycle.save(),
          load: () => lifecycle.load(new Map([[0, Buffer.from('x')]])),
          reset: () => lifecycle.reset(),
          add: () => lifecycle.add({}),
          plug: () => lifecycle.plug(),
        };
        const isAllowed =
          name === 'quiesce' || name === 'reset' || (name === 'add' || name === 'plug' ? !plugged : held > 0);
        if (!isAllowed) {
          assert.throws(run[name]);
          assert.equal(calls.length, before);
          continue;
        }
        run[name]();
        if (name === 'plug') plugged = true;
        if (name === 'quiesce') held += 1;
        if (name === 'resume') held -= 1;
        if (name === 'resume') assert.equal(calls.length > before, held === 0, 'resumed when the last one lets go');
      }
    }),
  );
});

test('a model that still finishes its DMA is not quiesced, so that nothing is saved of it', () => {
  const lifecycle = new Lifecycle('device');
  const isDone = new Cell('done', false);
  lifecycle.add({ quiesce: () => isDone.waitUntil((value) => value) as never, saveState: () => new Uint8Array(0) });
  const quiescing = runner.start('quiesce', lifecycle.quiesce());
  runner.drain();
  assert.throws(() => lifecycle.save(), /I10.*while it runs/);
  runner.run(isDone.store(true));
  runner.drain();
  assert.ok(quiescing.ended);
  assert.equal(lifecycle.save().size, 1);
});

test('a state that is missing is EINVAL', () => {
  const calls: string[] = [];
  const lifecycle = lifecycleOf(['a', 'b'], calls);
  runner.run(lifecycle.quiesce());
  assert.throws(() => lifecycle.load(new Map([[0, Buffer.from('a')]])), /EINVAL.*model 1/);
});
