/** I/O address spaces as in iommufd: mappings, sharing, revokes and refusals. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { buildMachine } from '../../src/machine/build.ts';
import { parseMachine } from '../../src/machine/load.ts';
import { IOMMU_READ, IOMMU_WRITE } from '../../src/pci/dma.ts';
import { EngineBackend } from '../../src/scenario/engine/backend.ts';
import { runScenario } from '../../src/scenario/run.ts';
import { type Step, scenarioSchema } from '../../src/scenario/step.ts';
import { runner } from '../../src/task/runner.ts';
import { PROFILES, type ProfileName } from '../../src/vfio/profile.ts';

const MACHINE = `
machine: apart
ports:
  - { name: root0, kind: root }
  - { name: root1, kind: root }
devices:
  - { name: lender, model: memory, port: root0, bars: [{ index: 0, size: 1M }] }
  - { name: borrower, model: memory, port: root1, bars: [{ index: 0, size: 4K }] }
`;
const U64_MAX = '0xffffffffffffffff';

const PREPARED: Step[] = [
  { op: 'open', device: 'lender', cdev: true },
  { op: 'open', device: 'borrower', cdev: true },
  { op: 'export', device: 'lender', region: 0, ranges: [[0x10000, 0x4000]], as: 'buffer' },
  { op: 'ioas-alloc', as: 'space' },
  { op: 'ioas-attach', device: 'borrower', ioas: 'space' },
];

/** The results of the steps after PREPARED. */
function results(steps: Step[], profile: ProfileName = 'default'): unknown[] {
  const scenario = scenarioSchema.parse({
    scenario: 'ioas',
    description: 'address spaces',
    machine: 'apart',
    tasks: { user: [...PREPARED, ...steps] },
  });
  const backend = new EngineBackend(buildMachine(parseMachine(MACHINE, 'apart.yaml')), PROFILES[profile]);
  const { steps: taken, blocked } = runScenario(scenario, backend);
  assert.deepEqual(blocked, []);
  return taken.slice(PREPARED.length).map(({ result }) => ('ok' in result ? result.ok : result.errno));
}

function map(
  iova: number | string,
  start: number | string = 0,
  length: number | string = 0x1000,
  ioas = 'space',
): Step {
  return { op: 'ioas-map-file', ioas, fd: 'buffer', start, length, iova };
}

function unmap(iova: number | string, length: number | string, ioas = 'space'): Step {
  return { op: 'ioas-unmap', ioas, iova, length };
}

const memory = (on: boolean): Step => ({ op: 'memory', device: 'lender', on });
const SHOW: Step = { op: 'ioas-translations', device: 'borrower' };

test('slices of a buffer are mapped where they are wanted, and are what the device reaches', () => {
  assert.deepEqual(results([map(0x100000), map(0x101000, 0x2000, 0x2000), SHOW, unmap(0x100000, 0x1000), SHOW]), [
    null,
    null,
    [
      [0x100000, 0x1000, 'lender BAR 0 + 0x10000'],
      [0x101000, 0x2000, 'lender BAR 0 + 0x12000'],
    ],
    0x1000,
    [[0x101000, 0x2000, 'lender BAR 0 + 0x12000']],
  ]);
});

test('a revoke takes the translations out for good; the place stays taken until it is unmapped', () => {
  assert.deepEqual(
    results([
      map(0x100000),
      memory(false),
      SHOW,
      map(0x200000),
      map(0x100000),
      memory(true),
      SHOW,
      map(0x100000),
      unmap(0x100000, 0x1000),
      map(0x100000),
      SHOW,
    ]),
    [
      null,
      null,
      [],
      'ENODEV',
      // The check that the buffer is lent precedes the check for room.
      'ENODEV',
      null,
      [],
      'EEXIST',
      0x1000,
      null,
      [[0x100000, 0x1000, 'lender BAR 0 + 0x10000']],
    ],
  );
});

test('what cannot be mapped is refused, in the order of Linux', () => {
  assert.deepEqual(
    results([
      map(U64_MAX),
      map(0, 0, U64_MAX),
      map(0, 0, 0),
      map(0, U64_MAX, 2),
      map(0x100000, 0x4000),
      map(0x100000, 0x3000, 0x2000),
      map(0x100000, 0, 0x800),
      map(0x100800),
      map(0x100000, 0x800),
      map(0xfee00000),
      map(0xfedff000, 0, 0x2000),
      map('0x1000000000000'),
      { op: 'ioas-map-file', ioas: 'space', fd: 'nothing', start: 0, length: 0x1000, iova: 0 },
      { op: 'ioas-map-file', ioas: 'nothing', fd: 'buffer', start: 0, length: 0x1000, iova: 0 },
      SHOW,
    ]),
    ['EOVERFLOW', 'EOVERFLOW', 'EINVAL', 'EOVERFLOW', ...new Array(8).fill('EINVAL'), 'EBADF', 'EBADF', []],
  );
});

test('an address space without a device takes what no device could reach, and then no device', () => {
  const detach: Step = { op: 'ioas-detach', device: 'borrower' };
  const attach: Step = { op: 'ioas-attach', device: 'borrower', ioas: 'space' };
  assert.deepEqual(results([detach, map(0x100800), attach, unmap(0x100800, 0x1000), attach, SHOW]), [
    null,
    null,
    'EADDRINUSE',
    0x1000,
    null,
    [],
  ]);
  assert.deepEqual(results([detach, map(0xfee00000), attach]), [null, null, 'EADDRINUSE']);
  // The last page of 52 bits, and the first one behind it.
  assert.deepEqual(results([detach, map('0xffffffffff000')]), [null, null]);
  assert.deepEqual(results([detach, map('0xffffffffff000', 0, 0x2000), map('0x10000000000000')]), [
    null,
    'EINVAL',
    'EINVAL',
  ]);
  assert.deepEqual(results([map(0x100000), detach, SHOW, attach, SHOW]), [
    null,
    null,
    [],
    null,
    [[0x100000, 0x1000, 'lender BAR 0 + 0x10000']],
  ]);
});

test('a copy shares the import: any run of areas, in any address space, revoked with the original', () => {
  const other: Step[] = [
    { op: 'ioas-alloc', as: 'other' },
    { op: 'ioas-attach', device: 'lender', ioas: 'other' },
  ];
  const copy = (fromIova: number, length: number, iova: number, ioas = 'other'): Step => ({
    op: 'ioas-copy',
    ioas,
    from: 'space',
    fromIova,
    length,
    iova,
  });
  const showOther: Step = { op: 'ioas-translations', device: 'lender' };
  assert.deepEqual(
    results([
      ...other,
      map(0x100000, 0, 0x2000),
      map(0x102000, 0x3000),
      copy(0x101000, 0x2000, 0x5000),
      showOther,
      copy(0x101000, 0x3000, 0x9000),
      copy(0x101000, 0, 0x9000),
      copy(0x100000, 0x1000, 0x6000),
      // Copies within one address space, then removes the original.
      copy(0x100000, 0x1000, 0x200000, 'space'),
      unmap(0x100000, 0x3000),
      SHOW,
      memory(false),
      SHOW,
      showOther,
      unmap(0x5000, 0x2000, 'other'),
    ]),
    [
      null,
      null,
      null,
      null,
      null,
      [
        [0x5000, 0x1000, 'lender BAR 0 + 0x11000'],
        [0x6000, 0x1000, 'lender BAR 0 + 0x13000'],
      ],
      'ENOENT',
      'EINVAL',
      'EEXIST',
      null,
      0x3000,
      [[0x200000, 0x1000, 'lender BAR 0 + 0x10000']],
      null,
      [],
      [],
      0x2000,
    ],
  );
});

test('an unmap that would cut an area: nothing happens; in Linux those before it are gone', () => {
  const steps = [map(0x100000), map(0x101000, 0x2000, 0x2000), unmap(0x100000, 0x2000), SHOW];
  const first = [0x100000, 0x1000, 'lender BAR 0 + 0x10000'];
  const second = [0x101000, 0x2000, 'lender BAR 0 + 0x12000'];
  assert.deepEqual(results(steps), [null, null, 'ENOENT', [first, second]]);
  assert.deepEqual(results(steps, 'linux-7.3'), [null, null, 'ENOENT', [second]]);
});

test('unmap: everything, nothing, and what makes no sense', () => {
  assert.deepEqual(
    results([
      unmap(0, U64_MAX),
      map(0x100000),
      map(0x300000),
      unmap(0, U64_MAX),
      unmap(0, 0x1000),
      unmap(0, 0),
      unmap(1, U64_MAX),
      unmap('0xfffffffffffff000', 0x2000),
    ]),
    [0, null, null, 0x2000, 'ENOENT', 'EINVAL', 'EOVERFLOW', 'EOVERFLOW'],
  );
});

test('an address space is destroyed with all that is mapped, not under a device; a closed device leaves it', () => {
  const destroy: Step = { op: 'ioas-destroy', ioas: 'space' };
  assert.deepEqual(results([map(0x100000), destroy, { op: 'close', device: 'borrower' }, destroy, destroy]), [
    null,
    'EBUSY',
    null,
    null,
    'EBADF',
  ]);
});

test('memory mapped for reading is not written, and copies do not write it', () => {
  const { world, perform } = prepared();
  const space = world.ioases.get('space')!;
  const { domain } = world.attached.get('borrower')!;
  runner.run(space.mapFile(world.getDmabuf('buffer'), 0n, 4096n, 0x100000n, IOMMU_READ));
  runner.run(space.copy(space, 0x100000n, 4096n, 0x200000n, IOMMU_READ));
  runner.run(space.copy(space, 0x100000n, 4096n, 0x300000n));
  assert.deepEqual(
    domain.list().map(({ iova, prot }) => [iova, prot]),
    [
      [0x100000, IOMMU_READ],
      [0x200000, IOMMU_READ],
      [0x300000, IOMMU_READ | IOMMU_WRITE],
    ],
  );
  perform(memory(false));
  assert.deepEqual(domain.list(), []);
});

/** A backend after PREPARED, for tests that call it directly. */
function prepared() {
  const backend = new EngineBackend(buildMachine(parseMachine(MACHINE, 'apart.yaml')));
  const perform = (step: Step) => assert.ok('ok' in runner.run(backend.perform(step)), step.op);
  for (const step of PREPARED) perform(step);
  return { world: backend.world, perform };
}
