/** The option --profile of the commands that build devices. */
import { PROFILES, type Profile, type ProfileName, type Proposed } from '../vfio/profile.ts';
import { known, UsageError } from './usage.ts';

const NAMES = Object.keys(PROFILES) as ProfileName[];
/** The features before this one have numbers in Linux 7.3. */
const FIRST_FREE_FEATURE = 14;
const MAX_FEATURE = 0xffff;

/** The names, for the help of the option. */
export const PROFILE_NAMES = `${NAMES.join(', ')}[:revoke=N,tph=N]`;

/** The profile of an option: a name, and for `next` the numbers of features. UsageError. */
export function profileOf(text: string): Profile {
  const [name, ...rest] = text.split(':');
  const profile = PROFILES[known('profile', name, NAMES)];
  if (rest.length === 0) return profile;
  if (profile.proposed === null) throw new UsageError(`--profile ${text}: only next has feature numbers`);
  const proposed = { ...profile.proposed };
  for (const part of rest.join(':').split(',')) {
    const [, feature, number] = /^(revoke|tph)=(\d{1,5})$/.exec(part) ?? [];
    if (feature === undefined) throw new UsageError(`--profile ${text}: ${part}: give revoke=N or tph=N`);
    proposed[feature as keyof Proposed] = Number(number);
  }
  for (const number of Object.values(proposed)) {
    if (number >= FIRST_FREE_FEATURE && number <= MAX_FEATURE) continue;
    throw new UsageError(
      `--profile ${text}: feature ${number}: give a number from ${FIRST_FREE_FEATURE} to ${MAX_FEATURE}`,
    );
  }
  if (proposed.revoke === proposed.tph) throw new UsageError(`--profile ${text}: two features of one number`);
  return { ...profile, proposed };
}
