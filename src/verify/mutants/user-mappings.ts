/** Mappings of a device's BARs by its own user that ignore revokes. */
import type { Cell } from '../../task/cell.ts';
import { DONE } from '../../task/op.ts';
import { BarMapping } from '../../vfio/mmap.ts';
import { type Mutant, replace, replacePrivate } from './overlay.ts';

export const USER_MAPPING_MUTANTS: readonly Mutant[] = [
  {
    name: 'R4-fault-unchecked',
    summary: 'the fault handler maps the page of a BAR whose memory is off',
    invariant: 'race',
    scenario: 'revoke-vs-mmap',
    apply: () =>
      replacePrivate<{ present: Cell<boolean> }>(BarMapping.prototype, 'touch', function* (access: () => void) {
        yield* this.present.store(true);
        yield* this.present.loadFor(access);
      }),
  },
  {
    name: 'R4-mapping-kept',
    summary: "the user's pages stay mapped when memory goes off",
    invariant: 'race',
    scenario: 'revoke-vs-mmap',
    apply: () => replace(BarMapping.prototype, 'zap', () => DONE),
  },
];
