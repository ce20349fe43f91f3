/** Steps of an importer, on a real kernel: requests to the lab's module. */
import { Errno } from '../../abi/errno.ts';
import { LabImporter } from '../../linux/lab-importer.ts';
import { named } from '../backend.ts';
import type { StepIn, StepOf } from '../step.ts';
import type { LinuxWorld } from './world.ts';

const DETACHED = ' (detached)';

export function importerStep(world: LinuxWorld, step: StepIn<'importer'>): unknown {
  switch (step.op) {
    case 'attach':
      return attach(world, step);
    case 'map': {
      const importer = named(world.importers, step.importer, 'importer');
      const { id, segments } = importer.map();
      world.mappings.set(step.as, { importer, id });
      return segments.map((segment) => segment.sizeBytes);
    }
    case 'unmap': {
      const { importer, id } = named(world.mappings, step.map, 'mapping');
      world.mappings.delete(step.map);
      return importer.unmap(id);
    }
    case 'detach':
      return detach(world, step.importer);
    case 'pin':
      return named(world.importers, step.importer, 'importer').pin();
    case 'unpin':
      return named(world.importers, step.importer, 'importer').unpin();
    case 'get-tph':
      throw new Errno('ENOSYS', "the lab's module has no call for the hints of a buffer");
    case 'add-fence': {
      const importer = named(world.importers, step.importer, 'importer');
      world.fences.set(step.as, { importer, id: importer.addFence(step.usage) });
      return null;
    }
    case 'signal-fence': {
      const { importer, id } = named(world.fences, step.fence, 'fence');
      world.fences.delete(step.fence);
      return importer.signal(id);
    }
    case 'callback-order':
      return callbackOrder(world);
    case 'callbacks':
      return named(world.importers, step.importer, 'importer').callbacks();
    case 'dma-write': {
      const { importer, id } = named(world.mappings, step.map, 'mapping');
      importer.write(id, Number(step.offset), Buffer.from(step.bytes, 'hex'));
      return step.bytes.length / 2;
    }
    case 'dma-read': {
      const { importer, id } = named(world.mappings, step.map, 'mapping');
      return importer.read(id, Number(step.offset), step.length).toString('hex');
    }
  }
}

function attach(world: LinuxWorld, step: StepOf<'attach'>): null {
  const importer = new LabImporter();
  try {
    const { device, kind = 'dynamic', onInvalidate = 'unmap', dmaBits } = step;
    importer.attach(world.fdNumber(step.fd), world.address(device), kind, onInvalidate, dmaBits);
  } catch (error) {
    importer.close();
    throw error;
  }
  world.importers.set(step.as, importer);
  return null;
}

function callbackOrder(world: LinuxWorld): string[] {
  const calls = [...world.importers].flatMap(([name, importer]) =>
    name.endsWith(DETACHED) ? [] : importer.callbackOrder().map((number) => ({ name, number })),
  );
  return calls.sort((a, b) => a.number - b.number).map(({ name }) => name);
}

/** Keeps the importer's file open while one of its fences is unsignalled: the close would signal them. */
function detach(world: LinuxWorld, name: string): null {
  const importer = named(world.importers, name, 'importer');
  world.importers.delete(name);
  importer.detach();
  const waits = [...world.fences.values()].some((fence) => fence.importer === importer);
  if (!waits) importer.close();
  else if (world.importers.has(name + DETACHED)) throw new Errno('EBUSY', `${name} was detached before`);
  else world.importers.set(name + DETACHED, importer);
  return null;
}
