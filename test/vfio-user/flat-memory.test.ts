/** Released memory is freed at once, not when Node's event loop turns: a thread that serves never turns it. */
import assert from 'node:assert/strict';
import { memoryUsage } from 'node:process';
import { test } from 'node:test';
import { memfdMemory } from '../../src/linux/bar-memory.ts';
import { createMemfd } from '../../src/linux/memfd.ts';
import { runner } from '../../src/task/runner.ts';
import { DmaRegions } from '../../src/vfio-user/server/dma-regions.ts';

const PAGE = 4096;
const ROUNDS = 20_000;
/** Half the size of the views of that many mappings, 2.4 KB each. JavaScript garbage varies by a few MiB. */
const MOST_GROWTH = 24 << 20;
const NOBODY = {
  read: function* () {
    return false;
  },
  write: function* () {
    return false;
  },
  chunkBytes: 2 ** 20,
  abort() {},
};
const NO_BUFFERS = { find: () => null, borrow: () => assert.fail('nothing is lent') };

/** How much the process grows in ROUNDS calls of `round`, after as many calls that bring it to its full size. */
function growth(round: (i: number) => void): number {
  for (let i = 0; i < ROUNDS / 4; i++) round(i);
  const before = memoryUsage.rss();
  for (let i = 0; i < ROUNDS; i++) round(i);
  return memoryUsage.rss() - before;
}

test('20,000 times DMA_MAP of another memfd, an access by the device, DMA_UNMAP: the process stays as large', () => {
  const regions = new DmaRegions('test', NOBODY, NO_BUFFERS, { maxDmaMaps: 10 });
  runner.run(regions.start());
  const bytes = Buffer.alloc(64);
  const round = (i: number) => {
    runner.run(regions.map({ flags: 3, offset: 0, iova: 0, sizeBytes: PAGE }, createMemfd('test', PAGE)));
    const { target } = regions.domain.find(0)!;
    assert.equal(target.kind, 'memory');
    if (target.kind !== 'memory') return;
    target.memory.write(target.offset, bytes.fill(i));
    target.memory.read(target.offset, bytes);
    assert.equal(runner.run(regions.unmap(0, 0n, BigInt(PAGE))), PAGE);
  };
  const grown = growth(round);
  assert.ok(grown < MOST_GROWTH, `${grown >> 20} MiB more`);
  runner.run(regions.destroy());
});

test('20,000 moves of a BAR from one that keeps its descriptor: the process stays as large', () => {
  const memory = memfdMemory('test', PAGE);
  const bytes = Buffer.alloc(64);
  const grown = growth((i) => {
    memory.write(0, bytes.fill(i));
    memory.renew!();
  });
  assert.ok(grown < MOST_GROWTH, `${grown >> 20} MiB more`);
  memory.close();
});
