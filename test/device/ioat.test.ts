import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  IOAT_ATTNSTATUS_OFFSET,
  IOAT_CHAINADDR_OFFSET,
  IOAT_CHAN_DMACOUNT_OFFSET,
  IOAT_CHANCMD_OFFSET,
  IOAT_CHANCMD_RESET,
  IOAT_CHANCMD_RESUME,
  IOAT_CHANCMD_SUSPEND,
  IOAT_CHANCTRL_INT_REARM,
  IOAT_CHANCTRL_OFFSET,
  IOAT_CHANERR_CHAIN_ADDR_VALUE_ERR,
  IOAT_CHANERR_CHANCMD_ERR,
  IOAT_CHANERR_COMPLETION_ADDR_ERR,
  IOAT_CHANERR_CONTROL_ERR,
  IOAT_CHANERR_DEST_ADDR_ERR,
  IOAT_CHANERR_LENGTH_ERR,
  IOAT_CHANERR_NEXT_ADDR_ERR,
  IOAT_CHANERR_NEXT_DESC_ALIGN_ERR,
  IOAT_CHANERR_OFFSET,
  IOAT_CHANERR_READ_DATA_ERR,
  IOAT_CHANERR_SRC_ADDR_ERR,
  IOAT_CHANERR_WRITE_DATA_ERR,
  IOAT_CHANSTS_ACTIVE,
  IOAT_CHANSTS_DONE,
  IOAT_CHANSTS_HALTED,
  IOAT_CHANSTS_SUSPENDED,
  IOAT_DESC_CTL_COMPL_WRITE,
  IOAT_DESC_CTL_INT_EN,
  IOAT_DESC_CTL_NULL,
  IOAT_INTRCTRL_MASTER_INT_EN,
  IOAT_INTRCTRL_OFFSET,
  IOAT_PCI_CHANERR_INT_OFFSET,
} from '../../src/abi/ioat.ts';
import { runner } from '../../src/task/runner.ts';
import { COMPLETION, IoatRig, MEMORY, MEMORY_BYTES, READ_ONLY, RING, SLOW, type TestDescriptor } from './ioat-rig.ts';

const DATA = MEMORY + 0x10_0000;
const DATA_BYTES = 0x20_0000;
const NOWHERE = 0x4000_0000;

test('random chains copy what a plain copy would, and complete in order', () => {
  const rig = new IoatRig();
  const channel = rig.channel();
  const copy = fc.record({
    source: fc.integer({ min: 0, max: 0xfffff }),
    destination: fc.integer({ min: 0, max: 0xfffff }),
    size: fc.integer({ min: 1, max: 0x100000 }),
    isNull: fc.boolean(),
    interrupts: fc.boolean(),
  });
  const property = fc.property(fc.array(copy, { minLength: 1, maxLength: 12 }), fc.integer(), (copies, seed) => {
    const model = Buffer.from(Array.from({ length: 256 }, (_, i) => (i * 7 + seed) & 0xff));
    const expected = Buffer.alloc(DATA_BYTES, model);
    rig.write(DATA, expected);
    rig.vectors.length = 0;
    const chain = copies.map(({ source, destination, size, isNull, interrupts }): TestDescriptor => {
      // Uses halves, so that no copy overlaps itself.
      const to = destination + 0x100000;
      const bytes = Math.min(size, 0x100000 - source, 0x200000 - to);
      if (!isNull) expected.copyWithin(to, source, source + bytes);
      const ctl =
        IOAT_DESC_CTL_COMPL_WRITE | (isNull ? IOAT_DESC_CTL_NULL : 0) | (interrupts ? IOAT_DESC_CTL_INT_EN : 0);
      return { source: DATA + source, destination: DATA + to, size: bytes, ctl };
    });
    rig.chain(chain);
    channel.run(copies.length);
    assert.equal(channel.error, 0);
    const last = BigInt(RING + 64 * (copies.length - 1));
    assert.equal(channel.get(0x08, 8), last | BigInt(IOAT_CHANSTS_DONE));
    assert.equal(rig.read(COMPLETION, 8).readBigUInt64LE(), last | BigInt(IOAT_CHANSTS_DONE));
    assert.ok(rig.read(DATA, DATA_BYTES).equals(expected));
    const due = copies.filter(({ interrupts }) => interrupts).length;
    assert.equal(rig.vectors.length, Math.min(due, 1), 'without a re-arm there is one interrupt');
    channel.set(IOAT_CHANCTRL_OFFSET, 2, IOAT_CHANCTRL_INT_REARM);
    assert.equal(rig.vectors.length, Math.min(due, 2), 'and what came due meanwhile is one more');
  });
  fc.assert(property, { numRuns: 60 });
});

const ERRORS: [
  name: string,
  error: number,
  chain: TestDescriptor[],
  options?: { chain?: number | bigint; completion?: number },
][] = [
  ['a source that is not mapped', IOAT_CHANERR_READ_DATA_ERR, [{ source: NOWHERE, destination: DATA }]],
  [
    'a source that ends being mapped',
    IOAT_CHANERR_READ_DATA_ERR,
    [{ source: MEMORY + MEMORY_BYTES - 4, destination: DATA }],
  ],
  ['a destination that is not mapped', IOAT_CHANERR_WRITE_DATA_ERR, [{ source: DATA, destination: NOWHERE }]],
  ['a destination that is read-only', IOAT_CHANERR_WRITE_DATA_ERR, [{ source: DATA, destination: READ_ONLY }]],
  ['a source that no bus has', IOAT_CHANERR_SRC_ADDR_ERR, [{ source: 2n ** 63n, destination: DATA }]],
  ['a destination that no bus has', IOAT_CHANERR_DEST_ADDR_ERR, [{ source: DATA, destination: 2n ** 52n - 4n }]],
  ['a size of 0', IOAT_CHANERR_LENGTH_ERR, [{ source: DATA, destination: DATA, size: 0 }]],
  ['a size above XFERCAP', IOAT_CHANERR_LENGTH_ERR, [{ source: DATA, destination: DATA, size: 2 ** 20 + 1 }]],
  [
    'an operation that it does not have',
    IOAT_CHANERR_CONTROL_ERR,
    [{ source: DATA, destination: DATA, ctl: 0x87 << 24 }],
  ],
  ['a chain that is not aligned', IOAT_CHANERR_CHAIN_ADDR_VALUE_ERR, [], { chain: RING + 8 }],
  ['a chain that is not mapped', IOAT_CHANERR_CHAIN_ADDR_VALUE_ERR, [], { chain: NOWHERE }],
  ['a chain that no bus has', IOAT_CHANERR_CHAIN_ADDR_VALUE_ERR, [], { chain: 2n ** 64n - 64n }],
  [
    'a next descriptor that is not aligned',
    IOAT_CHANERR_NEXT_DESC_ALIGN_ERR,
    [{ source: DATA, destination: DATA + 64, next: RING + 8 }],
  ],
  [
    'a next descriptor that is not mapped',
    IOAT_CHANERR_NEXT_ADDR_ERR,
    [{ source: DATA, destination: DATA + 64, next: NOWHERE }],
  ],
  [
    'a completion that cannot be written',
    IOAT_CHANERR_COMPLETION_ADDR_ERR,
    [{ source: DATA, destination: DATA + 64, ctl: IOAT_DESC_CTL_COMPL_WRITE }],
    { completion: NOWHERE },
  ],
];

for (const [name, error, chain, options] of ERRORS) {
  test(`${name} halts the channel, which works again after a reset`, () => {
    const rig = new IoatRig();
    const channel = rig.channel();
    rig.chain(chain);
    channel.run(2, options);
    assert.equal(channel.state, IOAT_CHANSTS_HALTED);
    assert.equal(channel.error & error, error, channel.error.toString(16));
    assert.equal(rig.fn.config.read(IOAT_PCI_CHANERR_INT_OFFSET, 4), channel.error);
    if (options?.completion === undefined) {
      assert.equal(rig.read(COMPLETION, 8)[0] & 7, IOAT_CHANSTS_HALTED, 'the completion tells it');
    }
    assert.deepEqual(rig.vectors, [0]);
    assertStaysHalted(rig);
    assertRecovers(rig);
  });
}

/** A doorbell must start nothing while an error is recorded. */
function assertStaysHalted(rig: IoatRig): void {
  const channel = rig.channel();
  rig.write(DATA, Buffer.from('nothing!'));
  rig.chain([{ source: DATA, destination: DATA + 128 }]);
  channel.run(1);
  assert.equal(channel.state, IOAT_CHANSTS_HALTED);
  assert.notEqual(rig.read(DATA + 128, 8).toString(), 'nothing!');
}

/** Recovers as drivers do: clears errors, resets, and starts a new chain. */
function assertRecovers(rig: IoatRig): void {
  const channel = rig.channel();
  channel.set(IOAT_CHANERR_OFFSET, 4, channel.error);
  runner.run(rig.fn.configWrite(IOAT_PCI_CHANERR_INT_OFFSET, 4, rig.fn.config.read(IOAT_PCI_CHANERR_INT_OFFSET, 4)));
  channel.command(IOAT_CHANCMD_RESET);
  assert.equal(channel.get(IOAT_CHANCMD_OFFSET, 1), 0n);
  assert.equal(channel.state, IOAT_CHANSTS_HALTED);
  assert.equal(channel.error, 0);
  assert.equal(rig.fn.config.read(IOAT_PCI_CHANERR_INT_OFFSET, 4), 0);
  rig.write(DATA, Buffer.from('recover!'));
  rig.chain([{ source: DATA, destination: DATA + 128, ctl: IOAT_DESC_CTL_INT_EN }]);
  rig.vectors.length = 0;
  channel.run(1);
  assert.equal(channel.state, IOAT_CHANSTS_DONE);
  assert.equal(rig.read(DATA + 128, 8).toString(), 'recover!');
  assert.deepEqual(rig.vectors, [0]);
}

test('without bus mastering it fetches nothing, and recovers when it has it', () => {
  const rig = new IoatRig();
  rig.chain([{ source: DATA, destination: DATA + 64 }]);
  rig.busMaster(false);
  rig.channel().run(1);
  assert.equal(rig.channel().error & IOAT_CHANERR_CHAIN_ADDR_VALUE_ERR, IOAT_CHANERR_CHAIN_ADDR_VALUE_ERR);
  rig.busMaster(true);
  assertRecovers(rig);
});

test('two commands at once are an error', () => {
  const rig = new IoatRig();
  rig.channel().command(IOAT_CHANCMD_SUSPEND | IOAT_CHANCMD_RESUME);
  assert.equal(rig.channel().error, IOAT_CHANERR_CHANCMD_ERR);
  assertRecovers(rig);
});

test('a suspend ends with the descriptor under way, a resume goes on behind it', () => {
  const rig = new IoatRig();
  const channel = rig.channel();
  rig.chain([
    { source: SLOW, destination: DATA },
    { source: SLOW, destination: DATA + 8 },
    { source: SLOW, destination: DATA + 16 },
  ]);
  channel.run(3);
  assert.equal(channel.state, IOAT_CHANSTS_ACTIVE);
  channel.command(IOAT_CHANCMD_SUSPEND);
  assert.equal(channel.state, IOAT_CHANSTS_ACTIVE, 'it is in the middle of one');
  rig.slow.let(3);
  assert.equal(channel.state, IOAT_CHANSTS_SUSPENDED);
  channel.set(IOAT_CHAN_DMACOUNT_OFFSET, 2, 3);
  runner.drain();
  assert.deepEqual([...rig.read(DATA, 24)], [...new Array(8).fill(7), ...new Array(16).fill(0)]);
  channel.command(IOAT_CHANCMD_RESUME);
  runner.drain();
  assert.equal(channel.state, IOAT_CHANSTS_DONE);
  assert.deepEqual([...rig.read(DATA, 24)], new Array(24).fill(7));
  channel.command(IOAT_CHANCMD_SUSPEND);
  assert.equal(channel.state, IOAT_CHANSTS_SUSPENDED, 'a channel that is done is suspended at once');
  channel.run(1);
  assert.equal(channel.state, IOAT_CHANSTS_ACTIVE, 'and a new chain needs no resume');
});

test('a reset is over when the request under way is, and nothing follows', () => {
  const rig = new IoatRig();
  const channel = rig.channel();
  rig.chain([
    { source: SLOW, destination: SLOW },
    { source: SLOW, destination: SLOW, ctl: IOAT_DESC_CTL_INT_EN },
  ]);
  channel.run(2);
  channel.command(IOAT_CHANCMD_RESET);
  assert.equal(channel.get(IOAT_CHANCMD_OFFSET, 1), BigInt(IOAT_CHANCMD_RESET));
  rig.slow.let(8);
  assert.equal(channel.get(IOAT_CHANCMD_OFFSET, 1), 0n);
  assert.equal(channel.state, IOAT_CHANSTS_HALTED);
  assert.equal(rig.slow.writes, 0);
  assert.deepEqual(rig.vectors, []);
  assertRecovers(rig);
});

test('a reset of the function ends work without a trace', () => {
  const rig = new IoatRig();
  const channel = rig.channel();
  rig.chain([
    { source: SLOW, destination: SLOW },
    { source: SLOW, destination: SLOW, ctl: IOAT_DESC_CTL_INT_EN },
  ]);
  channel.run(2);
  runner.run(rig.fn.hardwareReset());
  rig.slow.let(8);
  assert.equal(channel.state, IOAT_CHANSTS_HALTED);
  assert.equal(channel.get(IOAT_CHAINADDR_OFFSET, 8), 0n);
  assert.equal(rig.slow.writes, 0);
  rig.busMaster(true);
  assertRecovers(rig);
});

test('a descriptor that names itself is done as often as DMACOUNT says, over its wrap', () => {
  const rig = new IoatRig();
  const channel = rig.channel();
  rig.chain([{ source: DATA, destination: DATA + 64, next: RING }]);
  rig.write(DATA, Buffer.from('loopback'));
  channel.run(0xffff);
  channel.set(IOAT_CHAN_DMACOUNT_OFFSET, 2, 3);
  runner.drain();
  assert.equal(channel.state, IOAT_CHANSTS_DONE);
  assert.equal(rig.read(DATA + 64, 8).toString(), 'loopback');
});

test('registers take writes of any width', () => {
  const rig = new IoatRig();
  const channel = rig.channel();
  for (let i = 0; i < 8; i++) channel.set(IOAT_CHAINADDR_OFFSET + i, 1, i + 1);
  assert.equal(channel.get(IOAT_CHAINADDR_OFFSET, 8), 0x0807060504030201n);
  channel.set(IOAT_CHAINADDR_OFFSET + 4, 4, 0);
  assert.equal(channel.get(IOAT_CHAINADDR_OFFSET, 8), 0x04030201n);
  const all = Buffer.alloc(0x4000);
  rig.fn.bars[0]!.target.read(0, all);
  assert.equal(all.readUInt8(0), 1, 'CHANCNT');
  assert.equal(all.readUInt8(1), 20, 'XFERCAP');
  assert.equal(all.readUInt8(8), 0x33, 'VER');
  rig.fn.bars[0]!.target.write(0, Buffer.alloc(0x4000));
});

test('each channel has its vector, or all of them one and an attention register', () => {
  const rig = new IoatRig(4);
  rig.chain([{ source: DATA, destination: DATA + 64, ctl: IOAT_DESC_CTL_INT_EN }]);
  for (const index of [2, 0, 3]) rig.channel(index).run(1);
  assert.deepEqual(rig.vectors, [2, 0, 3]);
  assert.equal(rig.get(IOAT_ATTNSTATUS_OFFSET, 4), 0b1101n);
  assert.equal(rig.get(IOAT_ATTNSTATUS_OFFSET, 4), 0n, 'a read clears it');
  rig.vectors.length = 0;
  rig.channel(1).start(1);
  rig.set(IOAT_INTRCTRL_OFFSET, 1, IOAT_INTRCTRL_MASTER_INT_EN);
  runner.drain();
  assert.deepEqual(rig.vectors, [0]);
  assert.equal(rig.get(IOAT_INTRCTRL_OFFSET, 1), 7n);
  assert.equal(rig.get(IOAT_INTRCTRL_OFFSET, 1), 2n, 'a read switches the one interrupt off');
});
