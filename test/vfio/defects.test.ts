/**
 * The sequential bugs that this mechanism has had (R and L numbers of docs/mutants.md). Each has a check that passes on
 * the present code and fails with the defect put back. Bugs that need two tasks are mutants of the explorer.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { O_ACCMODE, O_APPEND, O_CREAT } from '../../src/abi/fcntl.ts';
import { cutSegments, MAX_SEGMENT_BYTES, type PhysVec, type SgSegment } from '../../src/dma-buf/scatterlist.ts';
import { buildMachine } from '../../src/machine/build.ts';
import { parseMachine } from '../../src/machine/load.ts';
import { EngineBackend } from '../../src/scenario/engine/backend.ts';
import { given, runScenario } from '../../src/scenario/run.ts';
import { type Step, scenarioSchema } from '../../src/scenario/step.ts';
import { Lifetime } from '../../src/task/lifetime.ts';
import { done } from '../../src/task/op.ts';
import { runner } from '../../src/task/runner.ts';
import { runtime } from '../../src/task/runtime.ts';
import { applyMutant, findMutant } from '../../src/verify/mutants/index.ts';
import { replace } from '../../src/verify/mutants/overlay.ts';
import { PROFILES, type Profile } from '../../src/vfio/profile.ts';
import { Registration } from '../../src/vfio/registration.ts';

/** A card with two functions, which are reset together, and a device that borrows. */
const MACHINE = parseMachine(
  `
machine: card
ports:
  - { name: root, kind: root }
  - { name: switch, kind: upstream, parent: root }
  - { name: slot0, kind: downstream, parent: switch }
  - { name: slot1, kind: downstream, parent: switch }
devices:
  - name: lender
    model: memory
    port: slot0
    bars: [{ index: 0, kind: mem64, prefetchable: true, size: 1M }]
    capabilities: { pm: {}, express: { flr: true } }
  - { name: sibling, model: memory, port: slot0, bars: [{ index: 0, size: 4K }] }
  - { name: borrower, model: ioat, port: slot1 }
`,
  'card.yaml',
);

const PAGE = 4096;
const device = 'lender';
const open: Step[] = [
  { op: 'open', device },
  { op: 'memory', device, on: true },
];
const exported: Step = { op: 'export', device, region: 0, ranges: [[0, PAGE]], as: 'buffer' };
const mapped: Step[] = [
  ...open,
  exported,
  { op: 'attach', fd: 'buffer', device: 'borrower', as: 'peer', onInvalidate: 'keep' },
  { op: 'map', importer: 'peer', as: 'mapping' },
];

function results(steps: readonly Step[], prepare: (backend: EngineBackend) => void = () => {}): unknown[] {
  const scenario = scenarioSchema.parse({
    scenario: 'defect',
    description: '',
    machine: 'card',
    tasks: { user: steps },
  });
  const backend = new EngineBackend(buildMachine(MACHINE));
  prepare(backend);
  const { steps: taken, blocked } = runScenario(scenario, backend);
  assert.deepEqual(blocked, [], 'a step waits for ever');
  return taken.map(({ result }) => given(result));
}

/** Objects that `body` makes and does not end. */
function leftOver(body: () => void): string[] {
  const alive = new Set<Lifetime>();
  runtime.observer = {
    born: (one) => alive.add(one),
    died: (one) => alive.delete(one),
    onLook: () => {},
    onAccess: () => {},
  };
  try {
    body();
  } finally {
    runtime.observer = null;
  }
  return [...alive].map(({ label }) => label);
}

interface Defect {
  number: string;
  what: string;
  /** Puts the defect back; returns a function that removes it. */
  apply: () => () => void;
  /** Throws if the code is wrong. With the defect put back, its error must match `seen`. */
  check: () => void;
  seen: RegExp;
}

const mutant = (name: string) => () => applyMutant(findMutant(name));

/** A trigger must have revoked by the time it returns. An importer that keeps its mapping makes it wait. */
function revokes(trigger: Step): () => void {
  return () => {
    const scenario = scenarioSchema.parse({
      scenario: 'revokes',
      description: '',
      machine: 'card',
      tasks: { user: [...mapped, trigger] },
    });
    const { blocked } = runScenario(scenario, new EngineBackend(buildMachine(MACHINE)));
    assert.deepEqual(
      blocked.map(({ index }) => index),
      [mapped.length],
      `${trigger.op} returns with a peer still mapped`,
    );
  };
}

function checkSegments(cut: (runs: readonly PhysVec[]) => SgSegment[]): void {
  const pages = fc.integer({ min: 1, max: 2 ** 26 });
  fc.assert(
    fc.property(fc.array(fc.tuple(pages, pages), { minLength: 1, maxLength: 4 }), (ranges) => {
      const runs = ranges.map(([at, length]) => ({ address: at * PAGE, sizeBytes: length * PAGE }));
      const segments = cut(runs);
      for (const { address, sizeBytes } of runs) {
        for (let done = 0; done < sizeBytes; ) {
          const segment = segments.shift();
          assert.ok(segment !== undefined && segment.sizeBytes > 0 && segment.sizeBytes <= MAX_SEGMENT_BYTES);
          assert.equal(segment.address, address + done);
          done += segment.sizeBytes;
          assert.ok(done <= sizeBytes);
        }
      }
      assert.deepEqual(segments, []);
    }),
    { seed: 8, examples: [[[[1, 2 ** 21]]], [[[1, 2 ** 21 + 1]]], [[[2 ** 20, 2 ** 24]]]] },
  );
}

/** Cuts lengths and addresses to 32 bits, too few for 8 GiB and more. */
function cutIn32Bits(runs: readonly PhysVec[]): SgSegment[] {
  return cutSegments(runs.map(({ address, sizeBytes }) => ({ address, sizeBytes: sizeBytes >>> 0 })));
}

let cut = cutSegments;

const DEFECTS: readonly Defect[] = [
  {
    number: 'R1',
    what: 'what an export had made leaks when the next thing that it needs cannot be had',
    seen: /vfio_pci_dma_buf/,
    apply: () => {
      const { end } = Lifetime.prototype;
      return replace(Lifetime.prototype, 'end', function (this: Lifetime) {
        if (this.label !== 'vfio_pci_dma_buf') end.call(this);
      });
    },
    check: () => {
      const left = leftOver(() => {
        const [, , refused] = results([...open, exported], ({ world }) => {
          const { registration } = world.device(device);
          let calls = 0;
          // The open gets a reference. Then the driver drops its own, and the export fails.
          registration.tryGet = () => (calls++ === 0 ? Registration.prototype.tryGet.call(registration) : done(false));
        });
        assert.equal(refused, 'ENODEV');
      });
      assert.deepEqual(left, []);
    },
  },
  {
    number: 'R3',
    what: 'open_flags that mean nothing are accepted',
    seen: /0xffffffff/,
    apply: () => replace(PROFILES.default as { -readonly [K in keyof Profile]: Profile[K] }, 'checkOpenFlags', false),
    check: () => {
      for (const openFlags of [0xffffffff, O_ACCMODE, O_APPEND, O_CREAT]) {
        assert.equal(
          results([...open, { ...exported, openFlags } as Step]).at(-1),
          'EINVAL',
          `0x${openFlags.toString(16)}`,
        );
      }
    },
  },
  {
    number: 'R5',
    what: 'FLR through config space revokes nothing',
    seen: /with a peer still mapped/,
    apply: mutant('R5-flr-without-revoke'),
    check: revokes({ op: 'flr', device }),
  },
  {
    number: 'R6',
    what: 'a power state revokes nothing',
    seen: /with a peer still mapped/,
    apply: mutant('R6-d3hot-without-revoke'),
    check: revokes({ op: 'power', device, state: 3 }),
  },
  {
    number: 'R6',
    what: 'low power revokes nothing',
    seen: /with a peer still mapped/,
    apply: mutant('R6-low-power-without-revoke'),
    check: revokes({ op: 'low-power-entry', device }),
  },
  {
    number: 'R7',
    what: 'clearing the memory bit revokes nothing',
    seen: /with a peer still mapped/,
    apply: mutant('R7-memory-off-without-revoke'),
    check: revokes({ op: 'memory', device, on: false }),
  },
  {
    number: 'L1',
    what: 'FLR revokes twice instead of revoking and restoring',
    seen: /ENODEV/,
    apply: mutant('L1-flr-revokes-twice'),
    check: () => {
      const attach: Step = { op: 'attach', fd: 'buffer', device: 'borrower', as: 'peer' };
      const map: Step = { op: 'map', importer: 'peer', as: 'again' };
      assert.deepEqual(results([...open, exported, attach, { op: 'flr', device }, map]).at(-1), [PAGE]);
    },
  },
  {
    number: 'L4',
    what: 'with the descriptor table full, an export puts and then frees again',
    seen: /I3: f_count is put more often/,
    apply: mutant('L4-freed-twice-when-full'),
    check: () => {
      const refused = results([...open, exported, { op: 'close', device }], ({ world }) => {
        world.files.limit = 0;
      });
      assert.equal(refused[2], 'EMFILE');
    },
  },
  {
    number: 'L6',
    what: 'a buffer that is revoked already is drained again when the device closes',
    seen: /I3: vfio_pci_dma_buf.kref is put more often/,
    apply: mutant('L6-drains-twice'),
    check: () => {
      results([...open, exported, { op: 'memory', device, on: false }, { op: 'close', device }]);
      results([...open, exported, { op: 'power', device, state: 3 }, { op: 'memory', device, on: false }]);
    },
  },
  {
    number: 'L8',
    what: 'a BAR is exported that the driver could not claim',
    seen: /null !== 'ENODEV'/,
    apply: mutant('L8-unclaimed-bar-exported'),
    check: () => {
      const refused = results(open.concat(exported), ({ world }) => {
        const { pdev } = world.device(device);
        const bar = pdev.bars[0]!;
        Object.defineProperty(bar, 'claimed', { get: () => false, set: () => {} });
      });
      assert.equal(refused.at(-1), 'ENODEV');
    },
  },
  {
    number: 'L9',
    what: 'a hot reset gives back the memory of a device that nobody has opened',
    seen: /vfio_device_set.lock/,
    apply: mutant('L9-unopened-restored'),
    check: () => assert.equal(results([...open, exported, { op: 'hot-reset', device }]).at(-1), null),
  },
  {
    number: 'L10',
    what: 'the arithmetic of segments overflows at 8 GiB and more',
    seen: /Property failed/,
    apply: () => {
      cut = cutIn32Bits;
      return () => {
        cut = cutSegments;
      };
    },
    check: () => checkSegments(cut),
  },
];

for (const { number, what, apply, check, seen } of DEFECTS) {
  test(`${number}: ${what}`, () => {
    check();
    const takeOut = apply();
    try {
      assert.throws(check, seen);
    } finally {
      takeOut();
      runner.drain();
    }
    check();
  });
}
