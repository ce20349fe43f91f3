/** Steps on mapped BARs and on eventfds, on a real kernel. */
import { readEventfd } from '../../linux/eventfd.ts';
import { Pinned } from '../../linux/ffi.ts';
import { readGuarded, writeGuarded } from '../../linux/guarded-copy.ts';
import { named } from '../backend.ts';
import type { StepIn } from '../step.ts';
import type { LinuxWorld } from './world.ts';

export function mappingStep(world: LinuxWorld, step: StepIn<'mapping'>): unknown {
  switch (step.op) {
    case 'mmap-read': {
      const map = named(world.maps, step.map, 'mapping');
      const { address, bytes } = new Pinned(step.length);
      checkAnswer(readGuarded(address, map.address + Number(step.offset), step.length));
      return bytes.toString('hex');
    }
    case 'mmap-write': {
      const map = named(world.maps, step.map, 'mapping');
      const source = Buffer.from(step.bytes, 'hex');
      const { address, bytes } = new Pinned(source.length);
      bytes.set(source);
      checkAnswer(writeGuarded(map.address + Number(step.offset), address, source.length));
      return undefined;
    }
    case 'munmap':
      named(world.maps, step.map, 'mapping').close();
      world.maps.delete(step.map);
      return null;
    case 'event-count': {
      const event = world.events.get(step.event);
      return event === undefined ? 0 : readEventfd(event.fd);
    }
  }
}

/** Turns a fault on a mapped BAR into the SIGBUS that the CPU would get. */
function checkAnswer(isCopied: boolean): void {
  if (isCopied) return;
  const fault = new Error('SIGBUS: the BAR does not answer');
  fault.name = 'BusError';
  throw fault;
}
