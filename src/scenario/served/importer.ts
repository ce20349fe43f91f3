/**
 * Steps of an importer, over vfio-user. An importer whose device is open borrows by DMA_MAP on its connection. Any
 * other importer acts as a separate process in a session with the exporter.
 */
import { named } from '../backend.ts';
import type { StepIn, StepOf } from '../step.ts';
import { UnsupportedStepError, unsupported } from './check.ts';
import { CopyEngine, READ_WRITE } from './copy-engine.ts';
import { SessionImporter } from './session-importer.ts';
import type { DeviceImporter, VfioUserWorld } from './world.ts';

export function importerStep(world: VfioUserWorld, step: StepIn<'importer'>): unknown {
  switch (step.op) {
    case 'attach':
      world.importers.set(step.as, attach(world, step));
      return null;
    case 'map': {
      const importer = named(world.importers, step.importer, 'importer');
      return importer instanceof SessionImporter
        ? mapSession(world, importer, step.as)
        : mapDevice(world, importer, step.as);
    }
    case 'unmap':
      return unmap(world, step.map);
    case 'detach': {
      const importer = named(world.importers, step.importer, 'importer');
      world.importers.delete(step.importer);
      if (importer instanceof SessionImporter) importer.detach();
      else for (const map of importer.mappings) unmap(world, map);
      return null;
    }
    case 'callbacks': {
      const importer = named(world.importers, step.importer, 'importer');
      if (!(importer instanceof SessionImporter)) throw new UnsupportedStepError(step, 'the device is its own');
      // The exporter may have sent an unasked message, such as RESTORE, that is still unread.
      while (world.loop.turn(0)) {}
      return importer.takeCallbacks();
    }
    case 'dma-write':
    case 'dma-read':
      return dma(world, step);
    default:
      return unsupported(step);
  }
}

function attach(world: VfioUserWorld, step: StepOf<'attach'>): DeviceImporter | SessionImporter {
  const buffer = world.buffer(step.fd);
  if (!world.clients.has(step.device)) return new SessionImporter(world.loop, buffer.fd);
  return { device: step.device, buffer, mappings: new Set<string>() };
}

function mapSession(world: VfioUserWorld, importer: SessionImporter, name: string): number[] {
  const lengths = importer.map(name);
  world.mappings.set(name, { importer, iova: null });
  return lengths;
}

function mapDevice(world: VfioUserWorld, importer: DeviceImporter, name: string): number[] {
  const { fd, sizeBytes } = importer.buffer;
  const iova = world.allocateIova(sizeBytes);
  world.client(importer.device).dmaMap(iova, sizeBytes, READ_WRITE, fd.fd);
  world.mappings.set(name, { importer, iova });
  importer.mappings.add(name);
  return [sizeBytes];
}

function unmap(world: VfioUserWorld, name: string): null {
  const { importer, iova } = named(world.mappings, name, 'mapping');
  world.mappings.delete(name);
  if (iova === null) importer.unmap(name);
  else {
    importer.mappings.delete(name);
    world.client(importer.device).dmaUnmap(iova, importer.buffer.sizeBytes);
  }
  return null;
}

function dma(world: VfioUserWorld, step: StepOf<'dma-write' | 'dma-read'>): unknown {
  const { importer, iova } = named(world.mappings, step.map, 'mapping');
  if (iova === null) throw new UnsupportedStepError(step, 'the device of the importer is not open');
  let engine = world.engines.get(importer.device);
  if (engine === undefined) {
    engine = new CopyEngine(world.client(importer.device));
    world.engines.set(importer.device, engine);
  }
  const at = iova + Number(step.offset);
  if (step.op === 'dma-write') return engine.write(at, Buffer.from(step.bytes, 'hex'));
  return engine.read(at, step.length).toString('hex');
}
