/** Steps on mapped BARs and on eventfds, on the engine. */
import type { Task } from '../../task/op.ts';
import { BarMapping } from '../../vfio/mmap.ts';
import { named } from '../backend.ts';
import type { StepIn } from '../step.ts';
import type { EngineWorld } from './world.ts';

export function* mappingStep(world: EngineWorld, step: StepIn<'mapping'>): Task<unknown> {
  switch (step.op) {
    case 'mmap-read': {
      const into = new Uint8Array(step.length);
      yield* named(world.maps, step.map, 'mapping').read(Number(step.offset), into);
      return Buffer.from(into).toString('hex');
    }
    case 'mmap-write': {
      const mapping = named(world.maps, step.map, 'mapping');
      return yield* mapping.write(Number(step.offset), Buffer.from(step.bytes, 'hex'));
    }
    case 'munmap': {
      const mapping = named(world.maps, step.map, 'mapping');
      if (mapping instanceof BarMapping) yield* world.deviceFiles.munmap(mapping);
      else yield* mapping.unmap();
      world.maps.delete(step.map);
      return null;
    }
    case 'event-count': {
      const event = world.events.get(step.event);
      const count = event?.count ?? 0;
      if (event !== undefined) event.count = 0;
      return count;
    }
  }
}
