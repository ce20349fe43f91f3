import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runner } from '../../src/task/runner.ts';
import { Registration } from '../../src/vfio/registration.ts';

test('unregistering waits for every registration, asks once, and gives no more out', () => {
  const registration = new Registration();
  let asked = 0;
  assert.equal(runner.run(registration.tryGet()), true);
  const unregistering = runner.start(
    'unregister',
    registration.unregister(() => (asked += 1)),
  );
  runner.drain();
  assert.deepEqual([asked, unregistering.ended], [1, false]);
  assert.equal(runner.run(registration.tryGet()), true, 'one holder is left, who may share');
  runner.run(registration.put());
  runner.run(registration.put());
  runner.drain();
  assert.equal(unregistering.ended, true);
  assert.equal(runner.run(registration.tryGet()), false);
});

test('with nobody there, nobody is asked', () => {
  runner.run(new Registration().unregister(() => assert.fail('nobody to ask')));
});
