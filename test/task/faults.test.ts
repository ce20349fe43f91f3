/** Every point at which an operation on a lent buffer may lack memory fails in turn: nothing may be left behind. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LAB_MACHINE } from '../../lab/diff/lenders.ts';
import { buildMachine } from '../../src/machine/build.ts';
import { loadMachine } from '../../src/machine/load.ts';
import { EngineBackend } from '../../src/scenario/engine/backend.ts';
import { given } from '../../src/scenario/run.ts';
import type { Step } from '../../src/scenario/step.ts';
import { failNth } from '../../src/task/faults.ts';
import type { Task } from '../../src/task/op.ts';
import { runner } from '../../src/task/runner.ts';
import type { VfioPciCoreDevice } from '../../src/vfio/core.ts';
import { PROFILES, type ProfileName } from '../../src/vfio/profile.ts';

const device = 'lender';
const machine = loadMachine(LAB_MACHINE);
const EXPORT: Step = { op: 'export', device, region: 0, ranges: [[0, 4096]], as: 'buffer' };
const ATTACH: Step = { op: 'attach', fd: 'buffer', device: 'borrower', as: 'peer' };
const MAP: Step = { op: 'map', importer: 'peer', as: 'lent' };
const IOAS: Step = { op: 'ioas-alloc', as: 'ioas' };
const IMPORT: Step = { op: 'ioas-map-file', ioas: 'ioas', fd: 'buffer', start: 0, length: 4096, iova: 0x10000 };
const memory = (on: boolean): Step => ({ op: 'memory', device, on });

interface Operation {
  before: Step[];
  step: Step;
  /** The points at which it can fail, in order. */
  points: string[];
}

const OPERATIONS: Record<string, Operation> = {
  export: {
    before: [],
    step: EXPORT,
    points: [
      'the argument',
      'the argument',
      'dma_ranges',
      'the argument',
      'vfio_pci_dma_buf',
      'phys_vec',
      'dma_buf',
      'files_struct',
    ],
  },
  attach: { before: [EXPORT], step: ATTACH, points: ['dma_buf_attachment'] },
  map: { before: [EXPORT, ATTACH], step: MAP, points: ['sg_table', 'iova'] },
  import: {
    before: [EXPORT, IOAS],
    step: IMPORT,
    points: ['iopt_pages', 'dma_buf_attachment', 'iopt_area'],
  },
  // A revoke and a restore allocate nothing, so they cannot be refused.
  revoke: { before: [EXPORT, ATTACH, MAP], step: memory(false), points: [] },
  restore: { before: [EXPORT, ATTACH, MAP, memory(false)], step: memory(true), points: [] },
  unmap: { before: [EXPORT, ATTACH, MAP], step: { op: 'unmap', map: 'lent' }, points: [] },
  close: { before: [EXPORT, ATTACH, MAP], step: { op: 'close', device }, points: [] },
};

class Trial {
  readonly backend: EngineBackend;

  constructor(profile: ProfileName) {
    this.backend = new EngineBackend(buildMachine(machine), PROFILES[profile]);
    this.all([{ op: 'open', device }, memory(true)]);
  }

  take(step: Step): unknown {
    return given(runner.run(this.backend.perform(step)));
  }

  all(steps: readonly Step[]): void {
    for (const step of steps) {
      const answer = this.take(step);
      assert.ok(typeof answer !== 'string', `${step.op}: ${answer}`);
    }
  }

  /** The addresses at which the peer has the buffer. A mapping that was leaked would have moved them. */
  addresses(): number[] {
    const lent = this.backend.world.mappings.get('lent');
    return lent === undefined ? [] : lent.table.segments.map(({ address }) => address);
  }
}

function* locksAreFree({ memoryLock, dmabufs }: VfioPciCoreDevice): Task {
  assert.equal(yield* memoryLock.tryWrite(), true, 'memory_lock is free');
  yield* memoryLock.releaseWrite();
  for (const { dmabuf } of dmabufs.get()) {
    yield* dmabuf.resv.lock.lock();
    yield* dmabuf.resv.lock.unlock();
  }
}

/** Tries the operation again after a failure, and checks that nothing is left of it. */
function askAfter(trial: Trial, { step }: Operation, expected: { answer: unknown; addresses: number[] }): void {
  assert.deepEqual(trial.take(step), expected.answer, 'the operation succeeds when it is tried again');
  assert.deepEqual(trial.addresses(), expected.addresses);
  const { world } = trial.backend;
  const lender = world.device(device);
  runner.run(locksAreFree(lender));
  for (const { revoked } of lender.dmabufs.get()) assert.equal(revoked.value, false, 'nothing is revoked for good');
  runner.run(trial.backend.dispose());
  assert.equal(lender.dmabufs.get().size, 0);
  // Ends only if every registration was given back.
  runner.run(lender.unregister());
}

for (const profile of ['default', 'linux-7.3'] as const) {
  for (const [name, operation] of Object.entries(OPERATIONS)) {
    test(`${name} fails at each point in turn, and leaves nothing behind (${profile})`, () => {
      const { before, step, points } = operation;
      const good = new Trial(profile);
      good.all(before);
      const expected = { answer: good.take(step), addresses: good.addresses() };
      const failed: string[] = [];
      for (let nth = 1; nth < 100; nth++) {
        const trial = new Trial(profile);
        trial.all(before);
        const stop = failNth(nth);
        const answer = trial.take(step);
        const point = stop();
        if (point === null) break;
        assert.equal(answer, point === 'the argument' ? 'EFAULT' : 'ENOMEM', point);
        failed.push(point);
        askAfter(trial, operation, expected);
      }
      assert.deepEqual(failed, points);
    });
  }
}
