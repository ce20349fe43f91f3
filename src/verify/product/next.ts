/** Programs for features that are proposed for Linux (the profile `next`): each against the triggers and the importers. */
import type { ProgramFamily } from '../../explore/world/program.ts';
import type { Step } from '../../scenario/step.ts';
import { PROFILES } from '../../vfio/profile.ts';
import { ATTACH, EXPORT, importerSteps, MAP, OFF, ON, OPEN, scenario } from './family.ts';
import type { ProductStage } from './stage.ts';
import { TRIGGERS } from './triggers.ts';

const FOR_GOOD: Step = { op: 'revoke-buffer', device: 'lender', fd: 'buf' };
const MMAP: Step = { op: 'mmap-fd', fd: 'buf', as: 'map' };
const STORES: Step[] = [0, 4].map((offset) => ({ op: 'mmap-write', map: 'map', offset, bytes: '01' }));

function next(name: string, summary: string, build: (set: ProductStage) => void): ProgramFamily {
  return scenario(name, summary, build, { profile: PROFILES.next });
}

/** A process stores through its mapping of a buffer while the memory is taken. */
function mappedVersus(trigger: string, summary: string, taken: readonly Step[]): ProgramFamily {
  return next(`${trigger}-vs-buffer-mmap`, summary, (set) => {
    set.prepare([...OPEN, EXPORT, MMAP]);
    const isClosed = taken.some(({ op }) => op === 'close');
    if (isClosed) set.taskWithFile('revoker', taken);
    else set.task('revoker', taken);
    set.task('process', STORES);
  });
}

/** A user takes a buffer for good while other steps use it. */
function forGoodVersus(name: string, summary: string, before: readonly Step[], during: readonly Step[]): ProgramFamily {
  return next(`for-good-vs-${name}`, summary, (set) => {
    set.prepare([...OPEN, EXPORT, ...before]);
    if (during.some(({ op }) => op === 'close')) {
      set.taskWithFile('revoker', [FOR_GOOD]);
      set.taskWithFile(name, during);
    } else {
      set.task('revoker', [FOR_GOOD]);
      set.task(name, during);
    }
  });
}

const { map, unmap } = importerSteps('importer');

export const NEXT: readonly ProgramFamily[] = [
  mappedVersus('revoke', 'memory goes off and on while a process stores through its mapping of a buffer', [OFF, ON]),
  mappedVersus('for-good', 'a buffer is revoked for good while a process stores through its mapping of it', [FOR_GOOD]),
  mappedVersus('close', 'the device closes while a process stores through its mapping of a buffer', TRIGGERS.close),
  forGoodVersus('map', 'a buffer is revoked for good while an importer maps and unmaps it', [ATTACH], [map, unmap]),
  forGoodVersus('memory', 'a buffer is revoked for good while memory goes off and on', [ATTACH, MAP], [OFF, ON]),
  forGoodVersus('for-good', 'a buffer is revoked for good twice at once', [ATTACH, MAP], [FOR_GOOD]),
  forGoodVersus('close', 'a buffer is revoked for good while the device closes', [ATTACH, MAP], TRIGGERS.close),
  forGoodVersus(
    'release',
    'a buffer is revoked for good while its last descriptor is closed',
    [],
    [{ op: 'close-fd', fd: 'buf' }],
  ),
];
