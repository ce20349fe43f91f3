/** Random programs: steps on lenders, their buffers and importers, as a user and a driver might take them. */
import fc from 'fast-check';
import { VFIO_DEVICE_FEATURE_SET } from '../../../src/abi/vfio-feature.ts';
import type { Step } from '../../../src/scenario/step.ts';
import type { DeviceTraits } from '../lenders.ts';
import { bufferStep, importerStep } from './buffers.ts';
import { deviceStep } from './device.ts';
import { Names } from './names.ts';
import { regionStep } from './regions.ts';

export const PAGE = 4096;

/** A command before names are given: its numbers choose among what there is by then. */
export interface Command {
  verb: Verb;
  a: number;
  b: number;
  c: number;
}

/** How often each verb comes, relative to the others. */
const WEIGHTS = {
  open: 2,
  close: 2,
  memory: 12,
  power: 8,
  flr: 3,
  reset: 3,
  'hot-reset': 2,
  'low-power': 7,
  'config-read': 5,
  'config-write': 4,
  'cap-read': 5,
  'cap-write': 4,
  'region-info': 2,
  'irq-info': 2,
  info: 1,
  'region-read': 4,
  'region-write': 3,
  mmap: 4,
  'mmap-read': 6,
  munmap: 2,
  'set-irqs': 7,
  feature: 5,
  export: 16,
  'bad-export': 8,
  'close-fd': 5,
  'dup-fd': 3,
  lseek: 3,
  'mmap-fd': 1,
  'set-name': 2,
  sync: 3,
  poll: 4,
  fdinfo: 3,
  'export-sync-file': 3,
  'import-sync-file': 2,
  attach: 14,
  map: 16,
  unmap: 7,
  detach: 5,
  pin: 2,
  fence: 6,
  signal: 5,
  callbacks: 8,
} as const;
export type Verb = keyof typeof WEIGHTS;

const verb = fc.oneof(
  ...Object.entries(WEIGHTS).map(([name, weight]) => ({ weight, arbitrary: fc.constant(name as Verb) })),
);
const number = fc.nat(255);
/** `d` chooses the device: mostly the first one. */
const command = fc.record({ verb, a: number, b: number, c: number, d: fc.nat(7) });

/** Programs of `most` commands at most; each begins with an open and with the memory bit set. */
export function programs(devices: readonly DeviceTraits[], most: number): fc.Arbitrary<Step[]> {
  return fc.array(command, { minLength: 4, maxLength: most, size: 'max' }).map((commands) => {
    const names = new Names();
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
