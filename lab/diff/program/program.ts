/** Random programs of steps on lenders, their buffers and importers, such as a user and a driver might take. */
import { VFIO_DEVICE_FEATURE_SET } from '../../../src/abi/vfio-feature.ts';
import type { Random } from '../../../src/explore/search/random.ts';
import type { Step } from '../../../src/scenario/step.ts';
import type { DeviceTraits } from '../lenders.ts';
import { bufferStep, importerStep } from './buffers.ts';
import { PAGE, type ProgramCommand, WEIGHTS } from './command.ts';
import { deviceStep } from './device.ts';
import { MadeNames } from './names.ts';
import { MIN_COMMANDS, randomCommand } from './random-command.ts';
import { regionStep } from './regions.ts';

/** Of eight commands, this many are for the first device. */
const FIRST_DEVICE_OF_8 = 5;

/** A program of at most `most` commands. It begins with an open and sets the memory bit. */
export function randomProgram(random: Random, devices: readonly DeviceTraits[], most: number): Step[] {
  const names = new MadeNames();
  const steps = devices.flatMap(prefix);
  const commands = MIN_COMMANDS + random.below(most - MIN_COMMANDS + 1);
  for (let i = 0; i < commands; i++) {
    const command: ProgramCommand = randomCommand(random, WEIGHTS);
    const traits = devices[random.below(8) < FIRST_DEVICE_OF_8 ? 0 : random.below(devices.length)];
    const step =
      deviceStep(command, traits) ??
      regionStep(command, i, traits, names) ??
      bufferStep(command, i, names) ??
      importerStep(command, i, names);
    if (step !== null) steps.push(step);
  }
  return steps;
}

/** The start of every program, which shrinking keeps: the devices are open, decode, and contain the same bytes. */
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
