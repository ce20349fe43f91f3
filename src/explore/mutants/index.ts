/** Known bugs, put back for the length of one search: replaced methods, and the way back. */

import { DmaBuf } from '../../dma-buf/dma-buf.ts';
import { File } from '../../dma-buf/file.ts';
import { DmaResv } from '../../dma-buf/resv.ts';
import { DONE, DONE_TRUE } from '../../task/op.ts';
import { VfioPciCoreDevice } from '../../vfio/core.ts';
import { vfioPciDmaBufOps } from '../../vfio/dmabuf.ts';
import { Registration } from '../../vfio/registration.ts';
import { RevocableBuffer } from '../classics/locks.ts';
import { Access, rules } from '../trace.ts';

export interface Mutant {
  readonly name: string;
  readonly summary: string;
  /** The invariant that it must be seen to break. */
  readonly invariant: string;
  /** A program that shows it. */
  readonly scenario: string;
  /** Puts the bug back; returns how it is taken out again. */
  apply(): () => void;
}

/** Replaces a property of an object that all share, and returns how it is put back. */
function replace<T extends object, K extends keyof T>(owner: T, key: K, value: T[K]): () => void {
  const before = owner[key];
  owner[key] = value;
  return () => {
    owner[key] = before;
  };
}

export const MUTANTS: readonly Mutant[] = [
  {
    name: 'classic-no-drain',
    summary: 'the revoke of the classic does not wait for the mappings',
    invariant: 'I2',
    scenario: 'revoke:2',
    apply: () => replace(RevocableBuffer.prototype, 'drain', function* () {}),
  },
  {
    name: 'L5-no-fence-wait',
    summary: 'no wait for the fences after the importers were told: the reset comes while a peer still does DMA',
    invariant: 'I2',
    scenario: 'revoke-vs-fence',
    apply: () => replace(DmaResv.prototype, 'wait', () => DONE),
  },
  {
    name: 'L5-no-invalidate',
    summary: 'importers are not told: the revoke waits for unmaps that nobody knows about',
    invariant: 'I7',
    scenario: 'revoke-vs-dma',
    apply: () => replace(DmaBuf.prototype, 'invalidateMappings', () => DONE),
  },
  {
    name: 'R2-registration-ignored',
    summary:
      'a failed try_get of the registration is ignored: unregistering races the export, and the release underflows',
    invariant: 'I3',
    scenario: 'export-vs-unregister',
    apply: () => replace(Registration.prototype, 'tryGet', () => DONE_TRUE),
  },
  {
    name: 'R7-memory-bit-ignored',
    summary: 'the memory bit is not looked at when memory is lent again',
    invariant: 'I1',
    scenario: 'revoke-vs-attach',
    apply: () => replace(VfioPciCoreDevice.prototype, 'memoryEnabled', () => true),
  },
  {
    name: 'R8-dead-file-walked',
    summary: 'the walk over the buffers does not ask whether a file is still alive',
    invariant: 'I3',
    scenario: 'revoke-vs-release',
    apply: () => replace(File.prototype, 'tryGet', () => DONE_TRUE),
  },
  {
    name: 'L3-no-callback-accepted',
    summary: 'an importer that cannot be told to let go is accepted: the revoke waits for ever',
    invariant: 'I7',
    scenario: 'revoke-vs-no-callback',
    apply: () => replace(vfioPciDmaBufOps, 'attach', () => DONE),
  },
];

/** A mutation of the explorer itself, which the counts of the classics must tell: two writes are said to commute. */
export function weakenDependence(): () => void {
  return replace(rules, 'dependent', (a: number, b: number) => a !== b && a !== Access.SHARE);
}

/** Error where there is none of that name; the message lists them. */
export function findMutant(name: string): Mutant {
  const mutant = MUTANTS.find((one) => one.name === name);
  if (mutant === undefined)
    throw new Error(`there is no mutant ${name}; there are ${MUTANTS.map((m) => m.name).join(', ')}`);
  return mutant;
}

export function applyMutant(mutant: Mutant): () => void {
  return mutant.apply();
}
