/** What makes a lender take its memory back, as steps of a scenario. */
import type { Step } from '../../src/scenario/step.ts';
import type { PeerTrigger } from './calls.ts';

export const device = 'lender';

export const memory = (on: boolean): Step => ({ op: 'memory', device, on });

export const TRIGGERS: Record<PeerTrigger, { pull: Step; undo?: Step }> = {
  'memory bit': { pull: memory(false), undo: memory(true) },
  D3hot: { pull: { op: 'power', device, state: 3 }, undo: { op: 'power', device, state: 0 } },
  FLR: { pull: { op: 'flr', device } },
  DEVICE_RESET: { pull: { op: 'reset', device } },
  'hot reset': { pull: { op: 'hot-reset', device } },
  'low power': { pull: { op: 'low-power-entry', device }, undo: { op: 'low-power-exit', device } },
  close: { pull: { op: 'close', device } },
};
