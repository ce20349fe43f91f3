/** Random programs: steps on lenders, their buffers and importers, as a user and a driver might take them. */
import fc from 'fast-check';
import { VFIO_DEVICE_FEATURE_SET } from '../../../src/abi/vfio-feature.ts';
import type { Step } from '../../../src/scenario/step.ts';
import type { DeviceTraits } from '../lenders.ts';
import { bufferStep, importerStep } from './buffers.ts';
import { PAGE, type ProgramVerb, WEIGHTS } from './command.ts';
import { deviceStep } from './device.ts';
import { MadeNames } from './names.ts';
import { regionStep } from './regions.ts';

const verb = fc.oneof(
  ...Object.entries(WEIGHTS).map(([name, weight]) => ({ weight, arbitrary: fc.constant(name as ProgramVerb) })),
);
const number = fc.nat(255);
/** `d` chooses the device: mostly the first one. */
const command = fc.record({ verb, a: number, b: number, c: number, d: fc.nat(7) });

/** Programs of `most` commands at most; each begins with an open and with the memory bit set. */
export function programs(devices: readonly DeviceTraits[], most: number): fc.Arbitrary<Step[]> {
  return fc.array(command, { minLength: 4, maxLength: most, size: 'max' }).map((commands) => {
    const names = new MadeNames();
    const steps = devices.flatMap(prefix);
    for (const [i, { d, ...each }] of commands.entries()) {
      const traits = devices[d < 5 ? 0 : (d - 4) % devices.length];
      const step =
        deviceStep(each, traits) ??
        regionStep(each, i, traits, names) ??
        bufferStep(each, i, names) ??
        importerStep(each, i, names);
      if (step !== null) steps.push(step);
    }
    return steps;
  });
}

/** What every program begins with, and keeps when it is shrunk: the devices open, decoding, with the same bytes. */
export function prefix({ name: device, region, regionBytes, isMemory, vf }: DeviceTraits): Step[] {
  const written = isMemory ? [0, 4, PAGE, 2 * PAGE, regionBytes - 4] : [];
  const bytes = '00000000';
  if (vf !== undefined) {
    return [
      { op: 'feature', device: vf.physfn, flags: VFIO_DEVICE_FEATURE_SET, argsz: 24, payload: vf.token },
      { op: 'open', device, vfToken: vf.token },
      { op: 'memory', device, on: true },
    ];
  }
  return [
    { op: 'open', device },
    { op: 'memory', device, on: true },
    ...written.map((offset): Step => ({ op: 'region-write', device, region, offset, bytes })),
  ];
}
