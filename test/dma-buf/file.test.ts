/** Files and descriptors: numbers, limits, and the release by the last reference. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FdTable, File } from '../../src/dma-buf/file.ts';
import type { Task } from '../../src/task/op.ts';
import { runner } from '../../src/task/runner.ts';

class Counted extends File {
  released = 0;

  constructor() {
    super('counted');
  }

  protected override *release(): Task {
    this.released += 1;
  }
}

const install = (table: FdTable, file: File) => runner.run(table.install(file));

test('descriptors are the lowest free numbers, and EMFILE at the limit', () => {
  const table = new FdTable(3);
  assert.deepEqual(
    [0, 1, 2].map(() => install(table, new Counted())),
    [0, 1, 2],
  );
  assert.throws(() => install(table, new Counted()), { code: 'EMFILE' });
  runner.run(table.close(1));
  runner.run(table.close(0));
  assert.deepEqual([install(table, new Counted()), install(table, new Counted())], [0, 1]);
  table.limit = 5;
  assert.equal(install(table, new Counted()), 3);
  assert.equal(table.openCount, 4);
});

test('a descriptor that is not open is EBADF, for a look, a get and a close', () => {
  const table = new FdTable();
  assert.throws(() => table.lookup(0), { code: 'EBADF' });
  assert.throws(() => runner.run(table.get(0)), { code: 'EBADF' });
  assert.throws(() => runner.run(table.close(7)), { code: 'EBADF' });
});

test('the last reference releases, once; a file that is dead is taken by nobody', () => {
  const table = new FdTable();
  const file = new Counted();
  const fd = install(table, file);
  assert.equal(table.lookup(fd), file);
  assert.equal(runner.run(table.get(fd)), file);
  runner.run(table.close(fd));
  assert.equal(file.released, 0);
  assert.equal(runner.run(file.tryGet()), true);
  runner.run(file.put());
  runner.run(file.put());
  assert.equal(file.released, 1);
  assert.equal(runner.run(file.tryGet()), false);
});

test('a deferred put releases in a task of its own, when the one that dropped it has gone on', () => {
  const file = new Counted();
  let seen = -1;
  runner.run(
    (function* () {
      yield* file.putDeferred();
      seen = file.released;
    })(),
  );
  runner.drain();
  assert.deepEqual([seen, file.released], [0, 1]);
});

test('an exit closes all', () => {
  const table = new FdTable();
  const files = [new Counted(), new Counted()];
  for (const file of files) install(table, file);
  runner.run(table.closeAll());
  assert.deepEqual([table.openCount, ...files.map(({ released }) => released)], [0, 1, 1]);
});

test('a close of what is not open gives out no number', () => {
  const table = new FdTable();
  const [first] = [0, 1].map(() => install(table, new Counted()));
  runner.run(table.close(first));
  assert.equal(install(table, new Counted()), first);
  for (const fd of [-1, 7]) assert.throws(() => runner.run(table.close(fd)), { code: 'EBADF' });
  assert.deepEqual([install(table, new Counted()), install(table, new Counted())], [2, 3]);
});
