/**
 * The physical function of a virtual one. A file of its own, since the serving thread must not load the schema: zod
 * would delay each start.
 */
import type { DeviceDescription } from './schema.ts';

/** The name of the physical function of a virtual one. Not every model can be one. */
export function physfnOf(device: DeviceDescription): string | undefined {
  return 'physfn' in device ? device.physfn : undefined;
}
