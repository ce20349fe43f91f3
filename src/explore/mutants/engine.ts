/** Bugs that a DMA engine, or its driver's trust in it, could have. */
import { IoatChannel } from '../../device/ioat/channel.ts';
import type { Task } from '../../task/op.ts';
import { type Mutant, replacePrivate } from './overlay.ts';

interface ChannelInside {
  raise(): void;
  takeDescriptor(goesOn: () => boolean, scratch: Uint8Array): Task<number>;
}

export const ENGINE_MUTANTS: readonly Mutant[] = [
  {
    name: 'engine-interrupts-early',
    summary: 'the engine raises its interrupt when it takes up a descriptor, and not when the copy is done',
    invariant: 'race',
    scenario: 'revoke-vs-engine',
    apply: () => {
      const { takeDescriptor } = IoatChannel.prototype as unknown as ChannelInside;
      const early: typeof takeDescriptor = function (this: ChannelInside, goesOn, scratch) {
        this.raise();
        return takeDescriptor.call(this, goesOn, scratch);
      };
      return replacePrivate<ChannelInside>(IoatChannel.prototype, 'takeDescriptor', early);
    },
  },
];
