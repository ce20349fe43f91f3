/** Steps of an importer, on the engine. */
import { Errno } from '../../abi/errno.ts';
import { DmaFence } from '../../dma-buf/fence.ts';
import {
  DMA_RESV_USAGE_BOOKKEEP,
  DMA_RESV_USAGE_KERNEL,
  DMA_RESV_USAGE_READ,
  DMA_RESV_USAGE_WRITE,
} from '../../dma-buf/resv.ts';
import type { Task } from '../../task/op.ts';
import { named, outcome } from '../backend.ts';
import type { StepIn, StepOf } from '../step.ts';
import { EngineImporter } from './importer-driver.ts';
import type { EngineWorld } from './world.ts';

const USAGES = {
  kernel: DMA_RESV_USAGE_KERNEL,
  write: DMA_RESV_USAGE_WRITE,
  read: DMA_RESV_USAGE_READ,
  bookkeep: DMA_RESV_USAGE_BOOKKEEP,
} as const;

export function* importerStep(world: EngineWorld, step: StepIn<'importer'>): Task<unknown> {
  switch (step.op) {
    case 'attach':
      return yield* attach(world, step);
    case 'map': {
      const mapping = yield* named(world.importers, step.importer, 'importer').map();
      world.mappings.set(step.as, mapping);
      return mapping.table.segments.map((segment) => segment.sizeBytes);
    }
    case 'unmap': {
      const mapping = named(world.mappings, step.map, 'mapping');
      world.mappings.delete(step.map);
      if (mapping.importer.lifetime.ended) throw new Errno('EBADF', `the importer of ${step.map} is detached`);
      return yield* mapping.importer.unmap(mapping);
    }
    case 'detach': {
      const importer = named(world.importers, step.importer, 'importer');
      world.importers.delete(step.importer);
      return yield* importer.detach();
    }
    case 'callback-order':
      return world.callbackOrder.splice(0).filter((name) => world.importers.has(name));
    case 'callbacks': {
      const importer = named(world.importers, step.importer, 'importer');
      return importer.callbacks.splice(0).map((callback) => callback.live);
    }
    case 'signal-fence': {
      const fence = named(world.fences, step.fence, 'fence');
      world.fences.delete(step.fence);
      return yield* fence.signal();
    }
    case 'pin':
    case 'unpin':
    case 'get-tph':
    case 'add-fence':
      return yield* lockedStep(world, step);
    case 'dma-write':
    case 'dma-read':
      return yield* dmaStep(world, step);
  }
}

function* attach(world: EngineWorld, step: StepOf<'attach'>): Task<null> {
  const dmabuf = yield* world.getDmabuf(step.fd);
  const importer = new EngineImporter(dmabuf, step.onInvalidate !== 'keep', (told) => {
    world.callbackOrder.push(step.as);
    world.onInvalidate(told);
  });
  if (step.onInvalidate === 'remap') importer.afterInvalidate = () => outcome(importer.mapLocked());
  const fn = world.pciFunction(step.device);
  fn.dmaBits = step.dmaBits ?? 64;
  try {
    importer.attachment = yield* dmabuf.attach(fn, importer.ops(step.kind ?? 'dynamic'));
  } catch (error) {
    importer.lifetime.end();
    yield* dmabuf.put();
    throw error;
  }
  world.importers.set(step.as, importer);
  return null;
}

/** Steps that the importer's driver takes with the reservation held. */
function* lockedStep(world: EngineWorld, step: StepOf<'pin' | 'unpin' | 'get-tph' | 'add-fence'>): Task<unknown> {
  const { dmabuf, attachment } = named(world.importers, step.importer, 'importer');
  yield* dmabuf.resv.lock.lock();
  try {
    if (step.op === 'pin') yield* dmabuf.pin(attachment);
    else if (step.op === 'unpin') yield* dmabuf.unpin(attachment);
    else if (step.op === 'get-tph') {
      const { steeringTag, ph } = dmabuf.getPciTph(step.extended === true);
      return [steeringTag, ph];
    } else {
      const fence = new DmaFence(step.as);
      yield* dmabuf.resv.addFence(fence, USAGES[step.usage]);
      world.fences.set(step.as, fence);
    }
  } finally {
    yield* dmabuf.resv.lock.unlock();
  }
  return null;
}

function* dmaStep(world: EngineWorld, step: StepOf<'dma-write' | 'dma-read'>): Task<unknown> {
  const { importer, table } = named(world.mappings, step.map, 'mapping');
  table.lifetime.check('DMA');
  const dev = importer.attachment.dev!;
  const length = step.op === 'dma-write' ? step.bytes.length / 2 : step.length;
  const bytes = step.op === 'dma-write' ? Buffer.from(step.bytes, 'hex') : Buffer.alloc(length);
  let at = Number(step.offset);
  let done = 0;
  for (const segment of table.segments) {
    if (at >= segment.sizeBytes) {
      at -= segment.sizeBytes;
      continue;
    }
    const part = bytes.subarray(done, done + Math.min(bytes.length - done, segment.sizeBytes - at));
    const status = yield* step.op === 'dma-write'
      ? dev.dmaWrite(segment.address + at, part)
      : dev.dmaRead(segment.address + at, part);
    if (status !== 'ok') throw new Errno('EIO', `DMA by ${dev.name}: ${status}`);
    done += part.length;
    at = 0;
    if (done === bytes.length) break;
  }
  return step.op === 'dma-write' ? done : bytes.toString('hex');
}
