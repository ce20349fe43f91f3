/** Every trigger that makes a device take its memory back, against every other. */

import { PCI_COMMAND, PCI_COMMAND_MEMORY } from '../../abi/pci_regs.ts';
import type { ProgramFamily } from '../../explore/world/program.ts';
import type { Step } from '../../scenario/step.ts';
import { ATTACH, EXPORT, MAP, OFF, ON, OPEN, scenario } from './family.ts';

/** Each trigger by name, with the steps that undo it if any do. */
export const TRIGGERS: Readonly<Record<string, Step[]>> = {
  memory: [OFF, ON],
  d3hot: [
    { op: 'power', device: 'lender', state: 3 },
    { op: 'power', device: 'lender', state: 0 },
  ],
  flr: [{ op: 'flr', device: 'lender' }],
  reset: [{ op: 'reset', device: 'lender' }],
  'hot-reset': [{ op: 'hot-reset', device: 'lender' }],
  'low-power': [
    { op: 'low-power-entry', device: 'lender' },
    { op: 'low-power-exit', device: 'lender' },
  ],
  wakeup: [
    { op: 'low-power-entry-with-wakeup', device: 'lender', as: 'event' },
    { op: 'region-read', device: 'lender', region: 0, offset: 0, length: 4 },
  ],
  close: [{ op: 'close', device: 'lender' }],
};

/** What root does from outside, through sysfs, with the steps that undo it if any do. */
const FROM_OUTSIDE: Readonly<Record<string, Step[]>> = {
  'sysfs-reset': [{ op: 'sysfs-reset', device: 'lender' }],
  'sysfs-bus-reset': [{ op: 'sysfs-reset-subordinate', device: 'lender' }],
  'sysfs-config': [
    { op: 'sysfs-config-write', device: 'lender', offset: PCI_COMMAND, size: 1, value: 0 },
    { op: 'sysfs-config-write', device: 'lender', offset: PCI_COMMAND, size: 1, value: PCI_COMMAND_MEMORY },
  ],
};
const ALL: Readonly<Record<string, Step[]>> = { ...TRIGGERS, ...FROM_OUTSIDE };

/** An importer keeps a mapping throughout, and maps anew whenever it is told that it may. */
function pair(a: string, b: string): ProgramFamily {
  const summary = a === b ? `the same trigger twice at once: ${a}` : `two triggers at once: ${a} and ${b}`;
  return scenario(`${a}-vs-${b}`, summary, (set) => {
    set.prepare([...OPEN, EXPORT, ATTACH, MAP]);
    set.keepMapped('importer');
    const again = a === b ? `${b} again` : b;
    if ([a, b].includes('close')) {
      set.taskWithFile(a, ALL[a]);
      if (b !== a) set.taskWithFile(b, ALL[b]);
    } else {
      set.task(a, ALL[a]);
      set.task(again, ALL[b]);
    }
  });
}

const names = Object.keys(TRIGGERS);

/** Every ordered pair: sampled and bounded searches start with the task that comes first in the list. */
export const TRIGGER_PAIRS: readonly ProgramFamily[] = names.flatMap((a) => names.map((b) => pair(a, b)));

/** Each trigger from outside against each of a user's, and against itself. */
export const OUTSIDE_PAIRS: readonly ProgramFamily[] = Object.keys(FROM_OUTSIDE).flatMap((a) =>
  [...names, a].map((b) => pair(a, b)),
);
