/** Steps on mapped BARs and on eventfds, over vfio-user. */
import { readEventfd } from '../../linux/eventfd.ts';
import { named } from '../backend.ts';
import type { StepIn } from '../step.ts';
import type { VfioUserWorld } from './world.ts';

export function mappingStep(world: VfioUserWorld, step: StepIn<'mapping'>): unknown {
  switch (step.op) {
    case 'event-count': {
      const event = world.events.get(step.event);
      return event === undefined ? 0 : readEventfd(event.fd);
    }
    case 'mmap-read': {
      const into = Buffer.alloc(step.length);
      named(world.maps, step.map, 'mapping').read(Number(step.offset), into);
      return into.toString('hex');
    }
    case 'mmap-write':
      return named(world.maps, step.map, 'mapping').write(Number(step.offset), Buffer.from(step.bytes, 'hex'));
    case 'munmap':
      named(world.maps, step.map, 'mapping').close();
      world.maps.delete(step.map);
      return null;
  }
}
