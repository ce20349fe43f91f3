/** Revokes against every operation of users and importers on a buffer. */

import type { ProgramFamily } from '../../explore/world/program.ts';
import type { Step } from '../../scenario/step.ts';
import { ATTACH, EXPORT, importerSteps, MAP, OFF, ON, OPEN, steps, stepsWithFile, withImporters } from './family.ts';
import { TRIGGERS } from './triggers.ts';

const CLOSE: Step = { op: 'close', device: 'lender' };

/** Importers write correctly, under fences, while the device's memory is taken. */
function dmaVersus(name: string, summary: string, trigger: readonly Step[]): ProgramFamily {
  return withImporters(name, summary, (set, importers) => {
    set.prepare([...OPEN, EXPORT]);
    for (const name of importers) set.prepare([importerSteps(name).attach, importerSteps(name).map]);
    set.task('revoker', trigger);
    for (const [i, name] of importers.entries()) set.dmaTask(name, name, 'lender', 16 * i);
  });
}

/** Importers take their own steps while memory goes off. */
function importersVersus(
  name: string,
  summary: string,
  revoker: readonly Step[],
  before: (importer: ReturnType<typeof importerSteps>) => Step[],
  during: (importer: ReturnType<typeof importerSteps>) => Step[],
  { areAlike = false } = {},
): ProgramFamily {
  return withImporters(name, summary, (set, importers) => {
    set.prepare([...OPEN, EXPORT]);
    for (const name of importers) set.prepare(before(importerSteps(name)));
    set.task('revoker', revoker);
    const tasks = importers.map((name) => set.task(name, during(importerSteps(name))));
    if (areAlike) set.alike(tasks);
  });
}

const byImporters: ProgramFamily[] = [
  importersVersus(
    'revoke-vs-map',
    'memory goes off and on while importers map and unmap',
    [OFF, ON],
    ({ attach }) => [attach],
    ({ map, unmap }) => [map, unmap],
    { areAlike: true },
  ),
  importersVersus(
    'revoke-vs-attach',
    'memory goes off while importers attach',
    [OFF],
    () => [],
    ({ attach }) => [attach],
  ),
  importersVersus(
    'revoke-vs-detach',
    'memory goes off while importers with a mapping detach',
    [OFF],
    ({ attach, map }) => [attach, map],
    ({ detach }) => [detach],
  ),
  importersVersus(
    'revoke-vs-unmap',
    'memory goes off while importers unmap',
    [OFF],
    ({ attach, map }) => [attach, map],
    ({ unmap }) => [unmap],
  ),
  importersVersus(
    'revoke-vs-late-unmap',
    'memory goes off while importers that unmap later, and not when they are told, are about to',
    [OFF],
    ({ attach, map }) => [{ ...attach, onInvalidate: 'keep' } as Step, map],
    ({ unmap }) => [unmap],
  ),
  importersVersus(
    'close-vs-map',
    'the device closes while importers map and unmap',
    [CLOSE],
    ({ attach }) => [attach],
    ({ map, unmap }) => [map, unmap],
  ),
  dmaVersus('revoke-vs-dma', 'memory goes off while importers write under fences', [OFF]),
  dmaVersus('reset-vs-dma', 'the device is reset while importers write under fences', TRIGGERS.reset),
  dmaVersus('hot-reset-vs-dma', 'the bus is reset while importers write under fences', TRIGGERS['hot-reset']),
  dmaVersus('low-power-vs-dma', 'the device sleeps while importers write under fences', TRIGGERS['low-power']),
  dmaVersus('close-vs-dma', 'the device closes while importers write under fences', [CLOSE]),
];

const byOthers: ProgramFamily[] = [
  steps('revoke-vs-no-callback', 'memory goes off while an importer attaches that cannot be told', [EXPORT], {
    revoker: [OFF],
    importer: [{ ...ATTACH, kind: 'no-callback' } as Step, MAP],
  }),
  steps('revoke-vs-export', 'memory goes off and on while a buffer is exported', [], {
    revoker: [OFF, ON],
    exporter: [EXPORT],
  }),
  stepsWithFile('revoke-vs-close', 'memory goes off and on while the device closes', [EXPORT, ATTACH, MAP], {
    revoker: [OFF, ON],
    closer: [CLOSE],
  }),
  steps('revoke-vs-release', 'memory goes off and on while the last descriptor is closed', [EXPORT], {
    revoker: [OFF, ON],
    releaser: [{ op: 'close-fd', fd: 'buf' }],
  }),
  steps('close-vs-release', 'the device closes while the last descriptor of a buffer is closed', [EXPORT], {
    closer: [CLOSE],
    releaser: [{ op: 'close-fd', fd: 'buf' }],
  }),
  steps(
    'revoke-vs-fence',
    'memory goes off while a fence of the importer is pending',
    [EXPORT, ATTACH, MAP, { op: 'add-fence', importer: 'importer', usage: 'bookkeep', as: 'fence' }],
    {
      revoker: [OFF],
      importer: [
        { op: 'dma-write', map: 'mapping', offset: 0, bytes: '01020304' },
        { op: 'signal-fence', fence: 'fence' },
      ],
    },
  ),
  steps(
    'revoke-vs-mmap',
    "memory goes off while the user stores through a mapping of the device's own",
    [{ op: 'mmap', device: 'lender', region: 0, offset: 0, length: 4096, as: 'map' }],
    { revoker: [OFF, ON], user: [{ op: 'mmap-write', map: 'map', offset: 0, bytes: '01' }, store(4), store(8)] },
  ),
  steps('revoke-vs-access', 'memory goes off while the user reads and writes a region', [], {
    revoker: [OFF, ON],
    user: [
      { op: 'region-write', device: 'lender', region: 0, offset: 0, bytes: '0102' },
      { op: 'region-read', device: 'lender', region: 0, offset: 0, length: 2 },
    ],
  }),
];

function store(offset: number): Step {
  return { op: 'mmap-write', map: 'map', offset, bytes: '01' };
}

export const REVOKE_VERSUS: readonly ProgramFamily[] = [...byImporters, ...byOthers];
