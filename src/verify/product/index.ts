/** The product's own scenarios: the functions that production runs, under every order that matters. */
import type { ProgramFamily } from '../../explore/world/program.ts';
import { ADDRESS_SPACES } from './address-spaces.ts';
import { ENGINES } from './engine.ts';
import { HOT_RESETS } from './hot-resets.ts';
import { LIFETIMES } from './lifetimes.ts';
import { NEXT } from './next.ts';
import { AT_REST } from './quiesce.ts';
import { REMOTE_IMPORTERS } from './remote.ts';
import { REVOKE_VERSUS } from './revoke-versus.ts';
import { SCREENS } from './screen.ts';
import { OUTSIDE_PAIRS, TRIGGER_PAIRS } from './triggers.ts';
import { VIRTUAL_FUNCTIONS } from './virtual-functions.ts';

/** The scenarios by topic, in the order in which `barter scenarios` lists them. */
export const PRODUCT_GROUPS: readonly { title: string; families: readonly ProgramFamily[] }[] = [
  { title: 'A revoke against everything else', families: REVOKE_VERSUS },
  { title: 'Lives of buffers and devices', families: LIFETIMES },
  { title: 'I/O address spaces', families: ADDRESS_SPACES },
  { title: 'Hot resets of a card with two functions', families: HOT_RESETS },
  { title: 'Importers in other processes', families: REMOTE_IMPORTERS },
  { title: 'Devices that are quiesced', families: AT_REST },
  { title: 'The I/OAT engine', families: ENGINES },
  { title: 'A virtio GPU', families: SCREENS },
  { title: 'Virtual functions', families: VIRTUAL_FUNCTIONS },
  { title: 'Proposed for Linux (the profile next)', families: NEXT },
  { title: 'Two triggers at once', families: TRIGGER_PAIRS },
  { title: 'A reset or config write from outside, and a trigger', families: OUTSIDE_PAIRS },
];

export const PRODUCT_PROGRAMS: readonly ProgramFamily[] = PRODUCT_GROUPS.flatMap(({ families }) => families);
