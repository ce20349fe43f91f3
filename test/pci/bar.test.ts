import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Bar, type BarKind, MemoryTarget } from '../../src/pci/bar.ts';
import { ConfigSpace } from '../../src/pci/config-space.ts';
import { PciFunction } from '../../src/pci/function.ts';
import { ArrayMemory } from '../../src/pci/memory.ts';

const bar = (kind: BarKind, sizeBytes: number, prefetchable = false) =>
  new Bar(0, kind, prefetchable, sizeBytes, new MemoryTarget(new ArrayMemory(0)));

test('sizes are powers of two, from 16 bytes on, or from 1 for ports, as legacy IDE has', () => {
  for (const [kind, sizeBytes] of [
    ['mem32', 8],
    ['mem64', 0],
    ['mem64', 24],
    ['io', 0.5],
    ['io', 12],
    ['mem32', -16],
    ['mem32', 16.5],
  ] as const) {
    assert.throws(() => bar(kind, sizeBytes), { code: 'EINVAL' }, `${kind} ${sizeBytes}`);
  }
  assert.deepEqual(
    [bar('mem32', 16).sizeBytes, bar('io', 1).sizeBytes, bar('mem64', 2 ** 40).sizeBytes],
    [16, 1, 2 ** 40],
  );
});

test('the low bits of the register tell the kind', () => {
  assert.deepEqual(
    [bar('io', 4), bar('mem32', 16), bar('mem32', 16, true), bar('mem64', 16), bar('mem64', 16, true)].map(
      (one) => one.typeBits,
    ),
    [1, 0, 8, 4, 12],
  );
});

test('memory behind a BAR is read and written as it is', () => {
  const target = new MemoryTarget(new ArrayMemory(8));
  target.write(2, Uint8Array.of(1, 2));
  const into = new Uint8Array(4);
  target.read(1, into);
  assert.deepEqual([...into], [0, 1, 2, 0]);
});

test('a function refuses slots that its BARs disagree with', () => {
  const at = (index: number, kind: BarKind = 'mem32') =>
    new Bar(index, kind, false, 4096, new MemoryTarget(new ArrayMemory(0)));
  const slots = (...bars: (Bar | null)[]) => [...bars, ...Array<null>(6 - bars.length).fill(null)];
  const refusal = (bars: (Bar | null)[]) => {
    try {
      new PciFunction({ name: 'mine', config: new ConfigSpace(), bars });
      return 'taken';
    } catch (error) {
      assert.equal((error as NodeJS.ErrnoException).code, 'EINVAL');
      return (error as Error).message.replace(/^EINVAL: /, '');
    }
  };
  assert.equal(refusal(slots(at(0), at(1, 'mem64'), null, at(3))), 'taken');
  assert.equal(refusal(slots(at(1))), 'mine: slot 0 has the BAR of index 1; they must be the same');
  assert.equal(refusal(slots(at(0, 'mem64'), at(1))), 'mine: slot 1 must be null: it is the upper half of BAR 0');
  const last = [null, null, null, null, null, at(5, 'mem64')];
  assert.equal(refusal(last), 'mine: BAR 5 is mem64 and has no next slot for its upper half');
  assert.equal(refusal([at(0)]), 'mine: 1 slots for BARs instead of 6; empty ones are null');
});

test('each BAR is in the register of its slot, which keeps its size and its address', () => {
  for (const index of [0, 2, 4]) {
    const config = new ConfigSpace();
    const bar = new Bar(index, 'mem64', false, 4096, new MemoryTarget(new ArrayMemory(0)));
    bar.declareRegister(config);
    bar.address = 0x12_3456_7000;
    bar.writeAddress(config);
    const register = 0x10 + 4 * index;
    assert.deepEqual([config.read(register, 4), config.read(register + 4, 4)], [0x34567004, 0x12]);
    config.write(register, 4, 0xffffffff);
    assert.equal(config.read(register, 4), 0xfffff004);
    for (let other = 0x10; other < 0x28; other += 4) {
      if (other !== register && other !== register + 4) assert.equal(config.read(other, 4), 0, `BAR ${index}`);
    }
  }
});
