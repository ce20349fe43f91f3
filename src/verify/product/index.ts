/** The product's own scenarios: the functions that production runs, under every order that matters. */
import type { ProgramFamily } from '../../explore/world/program.ts';
import { ADDRESS_SPACES } from './address-spaces.ts';
import { ENGINES } from './engine.ts';
import { HOT_RESETS } from './hot-resets.ts';
import { LIFETIMES } from './lifetimes.ts';
import { AT_REST } from './quiesce.ts';
import { REMOTE_IMPORTERS } from './remote.ts';
import { REVOKE_VERSUS } from './revoke-versus.ts';
import { TRIGGER_PAIRS } from './triggers.ts';
import { VIRTUAL_FUNCTIONS } from './virtual-functions.ts';

export const PRODUCT_PROGRAMS: readonly ProgramFamily[] = [
  ...REVOKE_VERSUS,
  ...LIFETIMES,
  ...ADDRESS_SPACES,
  ...HOT_RESETS,
  ...REMOTE_IMPORTERS,
  ...AT_REST,
  ...ENGINES,
  ...VIRTUAL_FUNCTIONS,
  ...TRIGGER_PAIRS,
];
