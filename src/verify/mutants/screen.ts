/** Bugs that a device which shows an imported buffer, or its driver, could have. */

import type { QueueWork } from '../../device/virtio/model.ts';
import { VirtioGpu } from '../../device/virtio-gpu/gpu.ts';
import type { Task } from '../../task/op.ts';
import { spawnBeside } from '../../task/runner.ts';
import { ScreenDriver } from '../product/screen.ts';
import { type Mutant, replace, replacePrivate } from './overlay.ts';

export const SCREEN_MUTANTS: readonly Mutant[] = [
  {
    name: 'screen-read-unlocked',
    summary: 'the GPU answers DETACH_BACKING while a reader of the screen still reads the memory',
    invariant: 'race',
    scenario: 'revoke-vs-screen',
    apply: () =>
      replacePrivate<VirtioGpu>(VirtioGpu.prototype, 'locked', function* <
        T,
      >(_: QueueWork, body: () => Task<T>): Task<T> {
        return yield* body();
      }),
  },
  {
    name: 'detach-not-awaited',
    summary: 'the driver of the GPU unmaps when it has sent DETACH_BACKING, and not when the device has answered',
    invariant: 'I9',
    scenario: 'revoke-vs-screen',
    apply: () =>
      replace(ScreenDriver.prototype, 'detach', function* (this: ScreenDriver): Task {
        spawnBeside('detach', this.sendDetach());
      }),
  },
];
