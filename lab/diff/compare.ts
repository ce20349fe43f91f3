/** Compares the same program on Barter's engine and on a kernel, result by result. */

import {
  PCI_BASE_ADDRESS_0,
  PCI_CAP_ID_EXP,
  PCI_CAP_ID_PM,
  PCI_COMMAND,
  PCI_EXP_DEVCTL,
  PCI_INTERRUPT_LINE,
  PCI_ROM_ADDRESS,
} from '../../src/abi/pci_regs.ts';
import { buildMachine } from '../../src/machine/build.ts';
import type { MachineDescription } from '../../src/machine/schema.ts';
import { EngineBackend } from '../../src/scenario/engine/backend.ts';
import { describeStep, type RunResult, runScenario } from '../../src/scenario/run.ts';
import { groupOf, type Scenario, type Step, type StepOf, type StepResult } from '../../src/scenario/step.ts';
import { PROFILES, type ProfileName } from '../../src/vfio/profile.ts';

export interface Difference {
  /** The index of the step whose result differs. */
  index: number;
  op: string;
  engine: unknown;
  kernel: unknown;
}

export function programScenario(steps: readonly Step[]): Scenario {
  return { scenario: 'program', description: 'a random program', machine: 'the lender', tasks: { user: [...steps] } };
}

/** Runs a program on the engine, by default as Linux 7.3 behaves. */
export function runOnEngine(
  description: MachineDescription,
  steps: readonly Step[],
  profile: ProfileName = 'linux-7.3',
): RunResult {
  return runScenario(programScenario(steps), new EngineBackend(buildMachine(description), PROFILES[profile]));
}

/** The first result that differs, or null. */
export function firstDifference(steps: readonly Step[], engine: RunResult, kernel: RunResult): Difference | null {
  return differences(steps, engine, kernel)[0] ?? null;
}

/** Every result that differs. */
export function differences(steps: readonly Step[], engine: RunResult, kernel: RunResult): Difference[] {
  return steps.flatMap((step, index) => {
    const bits = comparedBits(steps, index);
    const ours = comparable(step, engine.steps[index]?.result, bits);
    const theirs = comparable(step, kernel.steps[index]?.result, bits);
    if (JSON.stringify(ours) === JSON.stringify(theirs)) return [];
    return [{ index, op: describeStep(step), engine: ours, kernel: theirs }];
  });
}

/** The comparable part of a result: the errno of a refusal, and values that have a meaning outside the process. */
function comparable(step: Step, result: StepResult | undefined, bits: number): unknown {
  if (result === undefined) return 'not reached';
  if (!('ok' in result)) return result.errno;
  // An export without a name returns a descriptor number, which each process chooses itself.
  if (step.op === 'feature' && typeof result.ok === 'number' && result.ok > 0) return 'descriptor';
  if ((step.op === 'config-read' || step.op === 'cap-read') && typeof result.ok === 'number')
    return (result.ok & bits) >>> 0;
  // `bits` applies to data: here either all bits or none are compared.
  if (bits === 0 && typeof result.ok === 'string') return 'bytes';
  return sorted(result.ok);
}

/** In D1 and D2 a function answers no memory requests (PCI PM 1.2, 5.3), but QEMU's devices answer them. */
function isInD1D2(steps: readonly Step[], index: number): boolean {
  let state = 0;
  for (const step of steps.slice(0, index)) {
    if (step.op === 'power' && step.state !== 0) state = step.state;
    else if (step.op === 'cap-write' && step.cap === PCI_CAP_ID_PM && step.offset === 4) state = step.value & 3;
  }
  return state === 1 || state === 2;
}

/** Memory that root switched off past the driver reads as whatever the bus gives. A reset gives registers values. */
function isAfterRoot(steps: readonly Step[], index: number): boolean {
  return steps.slice(0, index).some((step) => groupOf(step) === 'sysfs');
}

/** SERR# and parity error response, which firmware sets as it likes. */
const FIRMWARE_COMMAND = 0x0140;

/** The bits of a read on which both sides must agree. */
function comparedBits(steps: readonly Step[], index: number): number {
  const step = steps[index];
  if (step.op === 'region-read' || step.op === 'mmap-read') {
    return isInD1D2(steps, index) || isAfterRoot(steps, index) ? 0 : 0xffffffff;
  }
  if (step.op === 'cap-read' && step.cap === PCI_CAP_ID_EXP && step.ext !== true) {
    return controlBits(steps, index, step);
  }
  if (step.op !== 'config-read') return 0xffffffff;
  let bits = 0;
  for (let i = 0; i < step.size; i++) bits += comparedByte(steps, index, step, step.offset + i) * 2 ** (8 * i);
  return bits;
}

/**
 * The comparable bits of a read in the PCI Express capability. Device Control has no value at reset on QEMU's igb,
 * where PCI Express (7.5.3.4) has one, so its bytes count only after the program has written them since the device was
 * opened.
 */
function controlBits(steps: readonly Step[], index: number, read: StepOf<'cap-read'>): number {
  const sinceOpen = stepsSinceOpen(steps, index, read.device);
  const isWritten = (at: number): boolean =>
    sinceOpen.some((step) => step.op === 'cap-write' && step.cap === read.cap && covers(step, at));
  let bits = 0;
  for (let i = 0; i < read.size; i++) {
    const at = read.offset + i;
    const isControl = at >= PCI_EXP_DEVCTL && at < PCI_EXP_DEVCTL + 2;
    if (!isControl || isWritten(at)) bits += 0xff * 2 ** (8 * i);
  }
  return bits;
}

/**
 * The comparable bits of a config-space byte. Firmware's choices in COMMAND, BARs and the interrupt line count only
 * after the program has written them since the device was opened.
 */
function comparedByte(steps: readonly Step[], index: number, { device }: StepOf<'config-read'>, at: number): number {
  if (at >= PCI_COMMAND && at < PCI_COMMAND + 2) return ~(FIRMWARE_COMMAND >>> (8 * (at - PCI_COMMAND))) & 0xff;
  const isFirmware =
    at === PCI_INTERRUPT_LINE ||
    (at >= PCI_BASE_ADDRESS_0 && at < PCI_BASE_ADDRESS_0 + 24) ||
    (at & ~3) === PCI_ROM_ADDRESS;
  if (!isFirmware) return 0xff;
  const sinceOpen = stepsSinceOpen(steps, index, device);
  return sinceOpen.some((step) => step.op === 'config-write' && covers(step, at)) ? 0xff : 0;
}

/** The steps of a device before step `index`, since it was opened last. */
function stepsSinceOpen(steps: readonly Step[], index: number, device: string): Step[] {
  const own = steps.slice(0, index).filter((step) => 'device' in step && step.device === device);
  return own.slice(own.findLastIndex((step) => step.op === 'open') + 1);
}

function covers({ offset, size }: { offset: number; size: number }, at: number): boolean {
  return offset <= at && at < offset + size;
}

function sorted(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
}
