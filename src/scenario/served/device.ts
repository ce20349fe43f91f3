/** Steps on a device, over vfio-user. */
import { Errno } from '../../abi/errno.ts';
import { VFIO_IRQ_SET_DATA_EVENTFD, VFIO_PCI_CONFIG_REGION_INDEX } from '../../abi/vfio.ts';
import {
  VFIO_DEVICE_FEATURE_DMA_BUF,
  VFIO_DEVICE_FEATURE_MASK,
  VFIO_DEVICE_FEATURE_PROBE,
} from '../../abi/vfio-feature.ts';
import { done, type Task } from '../../task/op.ts';
import type { VfioUserClient } from '../../vfio-user/client/client.ts';
import { named } from '../backend.ts';
import { type ConfigAccess, configStep } from '../config-steps.ts';
import { type FeatureStep, featureArgument } from '../feature-argument.ts';
import type { StepIn, StepOf } from '../step.ts';
import { UnsupportedStepError } from './check.ts';
import type { VfioUserWorld } from './world.ts';

/** Config space through a connection. */
export function configOf(client: VfioUserClient): ConfigAccess {
  return {
    name: client.path,
    read: (offset, into) => done(client.readRegion(VFIO_PCI_CONFIG_REGION_INDEX, offset, into)),
    write: (offset, from) => done(client.writeRegion(VFIO_PCI_CONFIG_REGION_INDEX, offset, from)),
  };
}

export function* deviceStep(world: VfioUserWorld, step: StepIn<'device'>): Task<unknown> {
  if (step.op === 'open') return open(world, step);
  const client = world.client(step.device);
  switch (step.op) {
    case 'close':
      world.engines.get(step.device)?.close();
      world.engines.delete(step.device);
      world.clients.delete(step.device);
      return client.closeAndWait();
    case 'info':
      return client.info();
    case 'region-info': {
      const { flags, sizeBytes, map } = client.regionInfo(step.region);
      map?.fd.close();
      return { flags, sizeBytes };
    }
    case 'irq-info':
      return client.irqInfo(step.index);
    case 'reset':
      return client.reset();
    case 'hot-reset':
      return client.hotReset();
    case 'hot-reset-info':
      return client.hotResetInfo().length;
    case 'region-read': {
      const into = Buffer.alloc(step.length);
      client.readRegion(step.region, Number(step.offset), into);
      return into.toString('hex');
    }
    case 'region-write': {
      const bytes = Buffer.from(step.bytes, 'hex');
      client.writeRegion(step.region, Number(step.offset), bytes);
      return bytes.length;
    }
    case 'mmap':
      world.maps.set(step.as, client.mapRegion(step.region, Number(step.offset), Number(step.length)));
      return null;
    case 'set-irqs':
      return setIrqs(world, client, step);
    case 'feature':
    case 'export':
    case 'revoke-buffer':
    case 'set-tph':
    case 'low-power-entry':
    case 'low-power-entry-with-wakeup':
    case 'low-power-exit':
      return featureStep(world, client, step);
    default:
      return yield* configStep(configOf(client), step);
  }
}

function open(world: VfioUserWorld, step: StepOf<'open'>): null {
  if (world.clients.has(step.device)) throw new UnsupportedStepError(step, 'a device has one client');
  world.connect(step.device);
  return null;
}

function setIrqs(world: VfioUserWorld, client: VfioUserClient, step: StepOf<'set-irqs'>): null {
  const names = step.events ?? [];
  const given = names.filter((event) => typeof event === 'string');
  const fds = given.map((event) => world.event(event).fd);
  const isEvents = (step.flags & VFIO_IRQ_SET_DATA_EVENTFD) !== 0;
  const data = isEvents ? undefined : Uint8Array.from(step.bools ?? []);
  client.setIrqs(step.flags, step.index, step.start, step.count, data, fds);
  return null;
}

function featureStep(world: VfioUserWorld, client: VfioUserClient, step: FeatureStep): unknown {
  const argument = featureArgument(step, 0, world.proposed);
  const { fds } = client.feature(argument, sentFds(world, step));
  const flags = argument.readUInt32LE(4);
  const isExport =
    (flags & VFIO_DEVICE_FEATURE_MASK) === VFIO_DEVICE_FEATURE_DMA_BUF && (flags & VFIO_DEVICE_FEATURE_PROBE) === 0;
  if (!isExport) return 0;
  const [fd] = fds;
  if (fd === undefined) throw new Errno('EPROTO', 'an export without a descriptor');
  const as = 'as' in step ? step.as : undefined;
  if (as === undefined) fd.close();
  else world.buffers.set(as, { fd, sizeBytes: exportedBytes(argument) });
  return null;
}

/** The descriptors of the message; the argument has their indexes. */
function sentFds(world: VfioUserWorld, step: FeatureStep): number[] {
  if (step.op === 'low-power-entry-with-wakeup') return [world.event(step.as).fd];
  return 'fd' in step ? [named(world.buffers, step.fd, 'descriptor').fd.fd] : [];
}

/** The size of an export that succeeded: the sum of its ranges. */
function exportedBytes(argument: Buffer): number {
  let sum = 0;
  for (let i = 0; i < argument.readUInt32LE(20); i++) sum += Number(argument.readBigUInt64LE(32 + 16 * i));
  return sum;
}
