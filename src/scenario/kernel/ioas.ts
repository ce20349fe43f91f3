/** Steps on I/O address spaces, on a real kernel: /dev/iommu, and devices bound to it by their own nodes. */
import { readIommuPages } from '../../linux/intel-iommu.ts';
import { findBar } from '../../linux/sysfs.ts';
import { attachIoas, detachIoas } from '../../linux/vfio/iommufd.ts';
import { named } from '../backend.ts';
import { describeBar, translations } from '../ioas-steps.ts';
import type { StepIn } from '../step.ts';
import type { LinuxWorld } from './world.ts';

export function ioasStep(world: LinuxWorld, step: StepIn<'ioas'>): unknown {
  switch (step.op) {
    case 'ioas-alloc':
      world.ioases.set(step.as, world.iommu.allocIoas());
      return null;
    case 'ioas-destroy':
      world.iommu.destroy(ioas(world, step.ioas));
      world.ioases.delete(step.ioas);
      return null;
    case 'ioas-map-file': {
      const fd = world.fdNumber(step.fd);
      world.iommu.mapFile(ioas(world, step.ioas), fd, BigInt(step.start), BigInt(step.length), BigInt(step.iova));
      return null;
    }
    case 'ioas-unmap':
      return Number(world.iommu.unmap(ioas(world, step.ioas), BigInt(step.iova), BigInt(step.length)));
    case 'ioas-copy': {
      const source = ioas(world, step.from);
      const target = ioas(world, step.ioas);
      world.iommu.copy(target, source, BigInt(step.fromIova), BigInt(step.length), BigInt(step.iova));
      return null;
    }
    case 'ioas-attach':
      attachIoas(world.device(step.device).device, ioas(world, step.ioas));
      world.attached.add(step.device);
      return null;
    case 'ioas-detach':
      detachIoas(world.device(step.device).device);
      world.attached.delete(step.device);
      return null;
    case 'ioas-translations': {
      if (!world.attached.has(step.device)) return [];
      const pages = readIommuPages(world.address(step.device));
      return translations(pages, (address) => describeAddress(world, address));
    }
  }
}

function ioas(world: LinuxWorld, name: string): number {
  return named(world.ioases, name, 'IOAS');
}

function describeAddress(world: LinuxWorld, address: number): string {
  for (const [name, bdf] of world.addresses) {
    const bar = findBar(bdf, address);
    if (bar !== null) return describeBar(name, bar.index, bar.offset);
  }
  return describeBar(null, 0, address);
}
