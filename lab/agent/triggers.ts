/** What makes a lender take its memory back, as steps of a scenario. */
import type { Step } from '../../src/scenario/step.ts';
import type { PeerTrigger } from './calls.ts';

export const device = 'lender';

export const memory = (on: boolean): Step => ({ op: 'memory', device, on });

interface TriggerPlan {
  pull: Step;
  /** Gives the memory back. A reset does so by itself, and after a close only an open can. */
  undo?: Step;
  /** The trigger restores the memory bit at its end, as a reset does, and so lends the memory again. */
  lendsAgain?: true;
}

export const TRIGGERS: Record<PeerTrigger, TriggerPlan> = {
  'memory bit': { pull: memory(false), undo: memory(true) },
  D3hot: { pull: { op: 'power', device, state: 3 }, undo: { op: 'power', device, state: 0 } },
  FLR: { pull: { op: 'flr', device }, lendsAgain: true },
  DEVICE_RESET: { pull: { op: 'reset', device }, lendsAgain: true },
  'hot reset': { pull: { op: 'hot-reset', device }, lendsAgain: true },
  'low power': { pull: { op: 'low-power-entry', device }, undo: { op: 'low-power-exit', device } },
  close: { pull: { op: 'close', device } },
};

/** In the order in which a run pulls them. */
export const TRIGGER_NAMES = Object.keys(TRIGGERS) as PeerTrigger[];
