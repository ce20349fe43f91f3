/** Steps on mapped BARs and on eventfds, on a real kernel. */
import { Errno } from '../../abi/errno.ts';
import { readEventfd } from '../../linux/eventfd.ts';
import { named } from '../backend.ts';
import type { StepIn } from '../step.ts';
import type { LinuxWorld } from './world.ts';

export function mappingStep(world: LinuxWorld, step: StepIn<'mapping'>): unknown {
  switch (step.op) {
    case 'mmap-read': {
      const map = named(world.maps, step.map, 'mapping');
      return busError(() => world.copy.read(map.address + Number(step.offset), step.length).toString('hex'));
    }
    case 'mmap-write': {
      const map = named(world.maps, step.map, 'mapping');
      return busError(() => world.copy.write(map.address + Number(step.offset), Buffer.from(step.bytes, 'hex')));
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
function busError<T>(access: () => T): T {
  try {
    return access();
  } catch (error) {
    if (!(error instanceof Errno) || error.errno !== 'EFAULT') throw error;
    const fault = new Error('SIGBUS: the BAR does not answer');
    fault.name = 'BusError';
    throw fault;
  }
}
