/** All deviations that clients are tried with. */
import type { ClientDeviation } from '../deviation.ts';
import { MESSAGE_DEVIATIONS } from './messages.ts';
import { SHOWN_DEVIATIONS } from './shown.ts';

export const DEVIATIONS: readonly ClientDeviation[] = [...MESSAGE_DEVIATIONS, ...SHOWN_DEVIATIONS];
