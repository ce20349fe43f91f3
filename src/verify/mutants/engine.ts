/** Bugs that a DMA engine, or a driver that trusts it too much, could have. */
import { IoatChannel } from '../../device/ioat/channel.ts';
import type { ChannelState } from '../../device/ioat/channel-state.ts';
import type { DescriptorCopier } from '../../device/ioat/copy.ts';
import { Lifecycle } from '../../pci/lifecycle.ts';
import type { Cell } from '../../task/cell.ts';
import type { Task } from '../../task/op.ts';
import { type Mutant, replacePrivate } from './overlay.ts';

interface ChannelInside {
  readonly quiesced: Cell<boolean>;
  readonly state: ChannelState;
  takeDescriptor(goesOn: () => Task<boolean>, copier: DescriptorCopier): Task<number>;
}

interface LifecycleInside {
  wanted: number;
  quiesced: number;
}

export const ENGINE_MUTANTS: readonly Mutant[] = [
  {
    name: 'engine-interrupts-early',
    summary: 'the engine raises its interrupt when it takes up a descriptor, and not when the copy is done',
    invariant: 'race',
    scenario: 'revoke-vs-engine',
    apply: () => {
      const { takeDescriptor } = IoatChannel.prototype as unknown as ChannelInside;
      const early: typeof takeDescriptor = function* (this: ChannelInside, goesOn, copier) {
        this.state.raise();
        return yield* takeDescriptor.call(this, goesOn, copier);
      };
      return replacePrivate<ChannelInside>(IoatChannel.prototype, 'takeDescriptor', early);
    },
  },
  {
    name: 'engine-stop-not-awaited',
    summary: 'a device counts as stopped when its engine was told to stop, and not when its last descriptor is done',
    invariant: 'race',
    scenario: 'stop-vs-engine',
    apply: () =>
      replacePrivate<ChannelInside>(IoatChannel.prototype, 'quiesce', function* (this: ChannelInside): Task {
        yield* this.quiesced.store(true);
      }),
  },
  {
    name: 'reset-without-quiesce',
    summary: 'a reset does not quiesce the device: its engine still writes after the reset has returned',
    invariant: 'race',
    scenario: 'reset-of-engine',
    apply: () =>
      replacePrivate<LifecycleInside>(Lifecycle.prototype, 'quiesce', function* (this: LifecycleInside): Task {
        this.wanted += 1;
        this.quiesced += 1;
      }),
  },
  {
    name: 'engine-not-kicked',
    summary: 'an engine that may run again waits for the next doorbell, with descriptors left',
    invariant: 'I10',
    scenario: 'stop-vs-engine',
    apply: () =>
      replacePrivate<ChannelInside>(IoatChannel.prototype, 'resume', function* (this: ChannelInside): Task {
        yield* this.quiesced.store(false);
      }),
  },
];
