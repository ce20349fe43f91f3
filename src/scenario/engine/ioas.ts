/** Steps on I/O address spaces, on the engine: importers with iommufd's rules, and the devices attached to them. */
import { Errno } from '../../abi/errno.ts';
import { HOST_RESERVED, IommuDomain } from '../../iommu/domain.ts';
import type { Task } from '../../task/op.ts';
import { Ioas } from '../../vfio/ioas.ts';
import type { IoasOptions } from '../../vfio/iopt-pages.ts';
import type { Profile } from '../../vfio/profile.ts';
import { named } from '../backend.ts';
import { describeBar, type Translation, translations } from '../ioas-steps.ts';
import type { StepIn, StepOf } from '../step.ts';
import type { EngineWorld } from './world.ts';

export function* ioasStep(world: EngineWorld, step: StepIn<'ioas'>): Task<unknown> {
  switch (step.op) {
    case 'ioas-alloc':
      world.ioases.set(step.as, new Ioas(ioasOptions(world.profile)));
      return null;
    case 'ioas-destroy': {
      yield* named(world.ioases, step.ioas, 'IOAS').destroy();
      world.ioases.delete(step.ioas);
      return null;
    }
    case 'ioas-map-file': {
      const ioas = named(world.ioases, step.ioas, 'IOAS');
      const buffer = world.getDmabuf(step.fd);
      return yield* ioas.mapFile(buffer, BigInt(step.start), BigInt(step.length), BigInt(step.iova));
    }
    case 'ioas-unmap':
      return yield* named(world.ioases, step.ioas, 'IOAS').unmap(BigInt(step.iova), BigInt(step.length));
    case 'ioas-copy': {
      const source = named(world.ioases, step.from, 'IOAS');
      const target = named(world.ioases, step.ioas, 'IOAS');
      return yield* target.copy(source, BigInt(step.fromIova), BigInt(step.length), BigInt(step.iova));
    }
    case 'ioas-attach':
      return yield* attach(world, step);
    case 'ioas-detach':
      demandOpen(world, step.device);
      return yield* world.detachFromIoas(step.device);
    case 'ioas-translations':
      return translations(mappingsOf(world, step.device), (address) => describeAddress(world, address));
  }
}

function ioasOptions({ ioasUnmapAllOrNone, proposed }: Profile): IoasOptions {
  return { unmapStopsHalfway: !ioasUnmapAllOrNone, severalRanges: proposed !== null };
}

function demandOpen(world: EngineWorld, name: string): void {
  const device = world.device(name);
  if (!world.deviceFiles.isOpen(device)) throw new Errno('EBADF', `${name} is not open`);
  if (!world.deviceFiles.isOpenByCdev(device)) throw new Errno('ENOTTY', `${name} was opened by its group`);
}

/** Attaches a device. A device that is attached elsewhere moves; if the attach is refused, it stays where it was. */
function* attach(world: EngineWorld, step: StepOf<'ioas-attach'>): Task<null> {
  demandOpen(world, step.device);
  const ioas = named(world.ioases, step.ioas, 'IOAS');
  if (world.attached.get(step.device)?.ioas === ioas) return null;
  const domain = new IommuDomain(`${step.device} in ${step.ioas}`, { reserved: HOST_RESERVED });
  yield* ioas.attachDomain(domain);
  yield* world.detachFromIoas(step.device);
  const pdev = world.pciFunction(step.device);
  world.attached.set(step.device, { ioas, domain, before: pdev.iommuDomain });
  pdev.iommuDomain = domain;
  return null;
}

function mappingsOf(world: EngineWorld, device: string): Translation[] {
  const mappings = world.attached.get(device)?.domain.list() ?? [];
  return mappings.flatMap(({ iova, sizeBytes, target }) =>
    target.kind === 'mmio' ? [{ iova, sizeBytes, address: target.address }] : [],
  );
}

function describeAddress(world: EngineWorld, address: number): string {
  const hit = world.machine.fabric.decode(address);
  return hit === null ? describeBar(null, 0, address) : describeBar(hit.fn.name, hit.bar.index, hit.offset);
}
