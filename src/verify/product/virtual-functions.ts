/** Resets of a physical function, which reset its virtual functions too, while one of these lends. */

import type { ProgramFamily } from '../../explore/world/program.ts';
import type { Step } from '../../scenario/step.ts';
import { OPEN, scenario } from './family.ts';
import { VIRTUAL } from './machines.ts';
import type { ProductStage } from './stage.ts';

const TOKEN = 'a5'.repeat(16);
const RESET: Step = { op: 'reset', device: 'lender' };
const OPEN_VF: Step[] = [
  { op: 'feature', device: 'lender', flags: 0x20000, argsz: 24, payload: TOKEN },
  { op: 'open', device: 'vf', vfToken: TOKEN },
];
const EXPORT: Step = { op: 'export', device: 'vf', region: 0, ranges: [[0, 4096]], as: 'buf' };
const ATTACH: Step = { op: 'attach', fd: 'buf', device: 'borrower', as: 'importer' };
const MAP: Step = { op: 'map', importer: 'importer', as: 'mapping' };

function versus(name: string, summary: string, before: readonly Step[], more: (set: ProductStage) => void) {
  return scenario(
    name,
    summary,
    (set) => {
      set.prepare([...OPEN, ...OPEN_VF, EXPORT, ATTACH, ...before]);
      set.task('resetter', [RESET]);
      more(set);
    },
    { machine: VIRTUAL },
  );
}

export const VIRTUAL_FUNCTIONS: readonly ProgramFamily[] = [
  versus('pf-reset-vs-vf-map', 'an importer maps what a virtual function lends', [], (set) => set.task('peer', [MAP])),
  versus('pf-reset-vs-vf-dma', 'an importer writes into what a virtual function lends', [MAP], (set) =>
    set.dmaTask('importer', 'importer', 'vf'),
  ),
  versus('pf-reset-vs-vf-reset', 'the virtual function is reset by itself', [MAP], (set) =>
    set.task('user', [{ op: 'reset', device: 'vf' }]),
  ),
  versus('pf-reset-vs-vf-close', 'the virtual function is closed', [MAP], (set) =>
    set.task('user', [{ op: 'close', device: 'vf' }]),
  ),
];
