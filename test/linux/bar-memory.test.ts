import assert from 'node:assert/strict';
import { fstatSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { memfdMemory } from '../../src/linux/bar-memory.ts';
import { duplicateFd } from '../../src/linux/fd.ts';
import { Mapping } from '../../src/linux/mapping.ts';
import { leavesNoFds } from './open-fds.ts';

test('a BAR that moves keeps its bytes, and shares none with whoever kept the old file', () => {
  const sizeBytes = 1 << 20;
  const write = fc.record({ offset: fc.nat(sizeBytes - 64), bytes: fc.uint8Array({ minLength: 1, maxLength: 64 }) });
  fc.assert(
    fc.property(
      fc.array(write, { maxLength: 20 }),
      fc.array(write, { minLength: 1, maxLength: 5 }),
      (before, after) => {
        leavesNoFds(() => {
          const memory = memfdMemory('test', sizeBytes);
          const model = Buffer.alloc(sizeBytes);
          for (const { offset, bytes } of before) {
            memory.write(offset, bytes);
            model.set(bytes, offset);
          }
          const kept = duplicateFd(memory.fd!, 'kept');
          const old = Mapping.map({ fd: kept.fd, offset: 0, sizeBytes, writable: true, what: 'kept' });
          kept.close();
          const asKept = Buffer.from(model);
          memory.renew!();
          for (const { offset, bytes } of after) {
            memory.write(offset, bytes);
            model.set(bytes, offset);
          }
          assert.equal(Buffer.compare(Buffer.from(old.bytes), asKept), 0, 'the old file sees nothing new');
          old.bytes.fill(0xee);
          const now = Buffer.alloc(sizeBytes);
          memory.read(0, now);
          assert.equal(Buffer.compare(now, model), 0, 'and what is written there reaches nobody');
          old.close();
          memory.close();
        });
      },
    ),
    { numRuns: 30 },
  );
});

test('a large BAR moves by what was written to it', () => {
  const sizeBytes = 3 * 2 ** 30;
  const memory = memfdMemory('test', sizeBytes);
  const places = [0, 2 ** 30 - 2, 2 ** 31 + 4096, sizeBytes - 4];
  for (const [i, place] of places.entries()) memory.write(place, Buffer.alloc(4, i + 1));
  memory.renew!();
  for (const [i, place] of places.entries()) {
    const bytes = Buffer.alloc(4);
    memory.read(place, bytes);
    assert.deepEqual(bytes, Buffer.alloc(4, i + 1));
  }
  assert.ok(fstatSync(memory.fd!).blocks * 512 <= 64 * 4096, 'holes stay holes');
  memory.close();
});
