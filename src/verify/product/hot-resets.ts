/** Hot resets of a card with two functions, both busy. */

import type { ProgramFamily } from '../../explore/world/program.ts';
import type { Step } from '../../scenario/step.ts';
import { ATTACH, EXPORT, MAP, OPEN, scenario } from './family.ts';
import { SIBLINGS } from './machines.ts';

const HOT_RESET: Step = { op: 'hot-reset', device: 'lender' };
const OPEN_SIBLING: Step = { op: 'open', device: 'sibling' };
const SIBLING_LENDS: Step[] = [
  { op: 'export', device: 'sibling', region: 0, ranges: [[0, 4096]], as: 'sibling buf' },
  { op: 'attach', fd: 'sibling buf', device: 'borrower', as: 'sibling importer' },
  { op: 'map', importer: 'sibling importer', as: 'sibling mapping' },
];

function versus(name: string, summary: string, before: readonly Step[], member: readonly Step[]): ProgramFamily {
  return scenario(
    name,
    summary,
    (set) => {
      set.prepare([...OPEN, ...before, EXPORT, ATTACH, MAP]);
      set.task('resetter', [HOT_RESET]);
      set.task('member', member);
    },
    { machine: SIBLINGS },
  );
}

const siblingMemory = (on: boolean): Step => ({ op: 'memory', device: 'sibling', on });

export const HOT_RESETS: readonly ProgramFamily[] = [
  versus(
    'hot-reset-vs-member-revoke',
    "memory of the card's other function goes off and on",
    [OPEN_SIBLING],
    [siblingMemory(false), siblingMemory(true)],
  ),
  versus(
    'hot-reset-vs-member-access',
    "the user of the card's other function reads a region",
    [OPEN_SIBLING],
    [{ op: 'region-read', device: 'sibling', region: 0, offset: 0, length: 4 }],
  ),
  versus('hot-reset-vs-member-open', "the card's other function is opened", [], [OPEN_SIBLING]),
  versus(
    'hot-reset-vs-member-close',
    "the card's other function is closed",
    [OPEN_SIBLING],
    [{ op: 'close', device: 'sibling' }],
  ),
  versus(
    'hot-reset-vs-member-reset',
    "the card's other function is reset by itself",
    [OPEN_SIBLING],
    [{ op: 'reset', device: 'sibling' }],
  ),
  versus(
    'hot-reset-vs-hot-reset-of-member',
    'both functions of a card ask for a hot reset',
    [OPEN_SIBLING],
    [{ op: 'hot-reset', device: 'sibling' }],
  ),
  scenario(
    'hot-reset-vs-two-dma',
    'both functions of a card lend, and two importers write while it is hot reset',
    (set) => {
      set.prepare([...OPEN, OPEN_SIBLING, EXPORT, ATTACH, MAP, ...SIBLING_LENDS]);
      set.task('resetter', [HOT_RESET]);
      set.dmaTask('importer', 'importer');
      set.dmaTask('sibling importer', 'sibling importer', 'sibling');
    },
    { machine: SIBLINGS },
  ),
  versus(
    'hot-reset-of-unopened',
    "the card's other function was never opened",
    [],
    [{ op: 'memory', device: 'lender', on: true }],
  ),
];
