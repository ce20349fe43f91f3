/** Buffers and devices that come and go: exports against unregistering, closing, and guessed descriptors. */

import { Errno } from '../../abi/errno.ts';
import type { ProgramFamily } from '../../explore/world/program.ts';
import type { Step } from '../../scenario/step.ts';
import { Cell } from '../../task/cell.ts';
import type { Task } from '../../task/op.ts';
import { ATTACH, EXPORT, importerSteps, MAP, OFF, ON, OPEN, scenario, steps, stepsWithFile } from './family.ts';
import type { ProductStage } from './stage.ts';

const CLOSE: Step = { op: 'close', device: 'lender' };
const SECOND: Step = { op: 'export', device: 'lender', region: 0, ranges: [[4096, 4096]], as: 'second' };

const IMPORTERS = [
  ['first', 'buf'],
  ['second', 'second'],
] as const;

/** Two buffers of one device, each with an importer that writes. */
function twoBuffers(name: string, summary: string, revoker: readonly Step[]): ProgramFamily {
  return scenario(name, summary, (set) => {
    set.prepare([...OPEN, EXPORT, SECOND]);
    for (const [importer, fd] of IMPORTERS) {
      const { attach, map } = importerSteps(importer, fd);
      set.prepare([attach, map]);
    }
    set.task('revoker', revoker);
    set.dmaTask('first', 'first', 'lender', 0);
    set.dmaTask('second', 'second', 'lender', 16);
  });
}

/** Two buffers whose importers let go when both were told: a revoke that waits between them never ends. */
function toldTogether(name: string, summary: string, revoker: readonly Step[]): ProgramFamily {
  return scenario(name, summary, (set) => {
    set.prepare([...OPEN, EXPORT, SECOND]);
    const told = new Cell('callbacks of the importers', 0);
    for (const [importer, fd] of IMPORTERS) {
      const { attach, map } = importerSteps(importer, fd);
      set.prepare([{ ...attach, onInvalidate: 'keep' } as Step, map]);
      set.countTold(importer, told);
    }
    set.task('revoker', revoker);
    for (const [importer] of IMPORTERS) set.unmapTask(importer, told, IMPORTERS.length);
  });
}

/** close(2) on a descriptor number that another task may just have received. */
function* guess(set: ProductStage): Task {
  try {
    yield* set.world.files.close(0);
  } catch (error) {
    if (!(error instanceof Errno)) throw error;
  }
}

export const LIFETIMES: readonly ProgramFamily[] = [
  scenario(
    'export-vs-unregister',
    'a buffer is exported while the driver is unbound',
    (set) => {
      set.prepare(OPEN);
      set.task('exporter', [EXPORT, CLOSE]);
      set.rawTask('unbinder', set.world.device('lender').unregister());
    },
    { registrations: 0 },
  ),
  stepsWithFile('export-vs-close', 'a buffer is exported while the device closes', [], {
    exporter: [EXPORT],
    closer: [CLOSE],
  }),
  steps('export-vs-export', 'two buffers of one device are exported at once', [], {
    first: [EXPORT],
    second: [SECOND],
  }),
  scenario('export-vs-guess', 'another thread closes the descriptor of an export as soon as it is there', (set) => {
    set.prepare(OPEN);
    set.task('exporter', [EXPORT]);
    set.rawTask('guesser', guess(set));
  }),
  scenario('export-table-full', 'an export finds the descriptor table full', (set) => {
    set.prepare(OPEN);
    set.world.files.limit = 0;
    set.task('exporter', [EXPORT]);
    set.task('revoker', [OFF]);
  }),
  scenario('export-of-unclaimed', 'a BAR is asked for that the driver could not claim', (set) => {
    set.prepare(OPEN);
    set.world.device('lender').pdev.bars[0]!.claimed = false;
    set.task('exporter', [EXPORT]);
    set.task('revoker', [OFF]);
  }),
  steps('attach-vs-release', 'an importer attaches by a descriptor that another thread closes', [EXPORT], {
    importer: [ATTACH],
    releaser: [{ op: 'close-fd', fd: 'buf' }],
  }),
  steps('reopen', 'a buffer outlives the close of its device, which is opened again', [EXPORT, ATTACH, MAP], {
    user: [CLOSE, { op: 'open', device: 'lender' }, ON],
    importer: [{ op: 'map', importer: 'importer', as: 'again' }],
  }),
  twoBuffers('two-buffers', 'memory goes off while two importers write to two buffers', [OFF]),
  twoBuffers('two-buffers-close', 'the device closes while two importers write to two buffers', [CLOSE]),
  toldTogether('two-buffers-told', 'memory goes off with two buffers, whose importers let go when both were told', [
    OFF,
  ]),
  toldTogether(
    'two-buffers-told-close',
    'the device closes with two buffers, whose importers let go when both were told',
    [CLOSE],
  ),
];
