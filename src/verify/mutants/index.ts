/** Every known bug by its name. docs/mutants.md lists the bugs without a mutant, and the reasons. */

import { UnknownNameError } from '../../explore/catalogue.ts';
import { Access, rules } from '../../explore/world/access.ts';
import { RevocableBuffer } from '../classics/locks.ts';
import { ENGINE_MUTANTS } from './engine.ts';
import { FOUND_MUTANTS } from './found.ts';
import { IMPORTER_MUTANTS } from './importers.ts';
import { LIFETIME_MUTANTS } from './lifetimes.ts';
import { type Mutant, replace } from './overlay.ts';
import { PROPOSED_MUTANTS } from './proposed.ts';
import { REMOTE_MUTANTS } from './remote.ts';
import { REVOKE_MUTANTS } from './revokes.ts';
import { SCREEN_MUTANTS } from './screen.ts';
import { TRIGGER_MUTANTS } from './triggers.ts';
import { USER_MAPPING_MUTANTS } from './user-mappings.ts';

export const MUTANTS: readonly Mutant[] = [
  {
    name: 'classic-no-drain',
    summary: 'the revoke of the classic does not wait for the mappings',
    invariant: 'I2',
    scenario: 'revoke:2',
    apply: () => replace(RevocableBuffer.prototype, 'drain', function* () {}),
  },
  ...TRIGGER_MUTANTS,
  ...REVOKE_MUTANTS,
  ...USER_MAPPING_MUTANTS,
  ...PROPOSED_MUTANTS,
  ...LIFETIME_MUTANTS,
  ...IMPORTER_MUTANTS,
  ...REMOTE_MUTANTS,
  ...ENGINE_MUTANTS,
  ...SCREEN_MUTANTS,
  ...FOUND_MUTANTS,
];

/** A mutation of the explorer itself: it treats two writes as commuting. The counts of the classics must reveal it. */
export function weakenDependence(): () => void {
  return replace(rules, 'dependent', (a: number, b: number) => a !== b && a !== Access.SHARE);
}

/** Throws UnknownNameError, with a list of all mutants, if none has this name. */
export function findMutant(name: string): Mutant {
  const mutant = MUTANTS.find((one) => one.name === name);
  if (mutant === undefined)
    throw new UnknownNameError(`there is no mutant ${name}; there are ${MUTANTS.map((m) => m.name).join(', ')}`);
  return mutant;
}

export function applyMutant(mutant: Mutant): () => void {
  return mutant.apply();
}
