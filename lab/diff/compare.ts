/** The same program on Barter's engine and on a kernel, result by result. */

import { PCI_BASE_ADDRESS_0, PCI_COMMAND, PCI_INTERRUPT_LINE, PCI_ROM_ADDRESS } from '../../src/abi/pci_regs.ts';
import { buildMachine } from '../../src/machine/build.ts';
import type { MachineDescription } from '../../src/machine/schema.ts';
import { EngineBackend } from '../../src/scenario/engine.ts';
import { describeStep, type RunResult, runScenario } from '../../src/scenario/run.ts';
import type { Scenario, Step, StepResult } from '../../src/scenario/step.ts';
import { PROFILES } from '../../src/vfio/profile.ts';

export interface Difference {
  /** The step that differs, and those before it. */
  index: number;
  op: string;
  engine: unknown;
  kernel: unknown;
}

export function programScenario(steps: readonly Step[]): Scenario {
  return { scenario: 'program', description: 'a random program', machine: 'the lender', tasks: { user: [...steps] } };
}

/** Runs a program on the engine as Linux 7.3 behaves. */
export function runOnEngine(description: MachineDescription, steps: readonly Step[]): RunResult {
  return runScenario(programScenario(steps), new EngineBackend(buildMachine(description), PROFILES['linux-7.3']));
}

/**
 * The program without the steps that would wait for ever: a revoke that waits for a fence, or for an importer that
 * keeps its mapping, blocks the only task that there is. The kernel must not be asked to do these in one thread.
 */
export function withoutBlocking(
  description: MachineDescription,
  steps: readonly Step[],
): { steps: Step[]; result: RunResult } {
  let left = [...steps];
  for (;;) {
    const result = runOnEngine(description, left);
    if (result.blocked.length === 0) return { steps: left, result };
    left = left.filter((_, i) => i !== result.blocked[0].index);
  }
}

/** The first result that differs, or null. */
export function firstDifference(steps: readonly Step[], engine: RunResult, kernel: RunResult): Difference | null {
  for (const [index, step] of steps.entries()) {
    const bits = comparedBits(steps, index);
    const ours = comparable(step, engine.steps[index]?.result, bits);
    const theirs = comparable(step, kernel.steps[index]?.result, bits);
    if (JSON.stringify(ours) !== JSON.stringify(theirs)) {
      return { index, op: describeStep(step), engine: ours, kernel: theirs };
    }
  }
  return null;
}

/**
 * What is compared of a result: the errno of a refusal; of values, those that mean something outside of the process.
 */
function comparable(step: Step, result: StepResult | undefined, bits: number): unknown {
  if (result === undefined) return 'not reached';
  if (!('ok' in result)) return result.errno;
  // An export without a name gives a descriptor's number, which is each process's own.
  if (step.op === 'feature' && typeof result.ok === 'number' && result.ok > 0) return 'descriptor';
  if (step.op === 'config-read' && typeof result.ok === 'number') return (result.ok & bits) >>> 0;
  // The bits are those of data: of these either all or none are compared.
  if (bits === 0 && typeof result.ok === 'string') return 'bytes';
  return sorted(result.ok);
}

/** In D1 and D2 a function answers no memory request (PCI PM 1.2, 5.3), which QEMU's devices do all the same. */
function isInD1D2(steps: readonly Step[], index: number): boolean {
  for (let at = index - 1; at >= 0; at--) {
    const { op } = steps[at];
    if (op === 'power') return [1, 2].includes((steps[at] as { state: number }).state);
    if (op === 'open' || op === 'reset' || op === 'flr') return false;
  }
  return false;
}

/** Whether a write set the register that a read begins in. */
function covers(write: { offset: number; size: number }, offset: number): boolean {
  return write.offset === offset || (write.offset === (offset & ~3) && write.size === 4);
}

/** SERR# and parity error response: firmware sets them as it likes. */
const FIRMWARE_COMMAND = 0x0140;

/**
 * The bits of a config read that both sides must agree on: not where firmware put a BAR, until the program has written
 * the register since the device was opened; nor what firmware chose in COMMAND.
 */
function comparedBits(steps: readonly Step[], index: number): number {
  const step = steps[index];
  if (step.op === 'region-read' || step.op === 'mmap-read') return isInD1D2(steps, index) ? 0 : 0xffffffff;
  if (step.op !== 'config-read') return 0xffffffff;
  const { offset, size } = step;
  if (offset < PCI_COMMAND + 2 && offset + size > PCI_COMMAND) {
    return (
      (offset >= PCI_COMMAND ? ~(FIRMWARE_COMMAND >>> (8 * (offset - PCI_COMMAND))) : ~(FIRMWARE_COMMAND << 16)) >>> 0
    );
  }
  const isAddress =
    offset === PCI_INTERRUPT_LINE || // firmware chose that, too
    (offset >= PCI_BASE_ADDRESS_0 && offset < PCI_BASE_ADDRESS_0 + 24) ||
    (offset & ~3) === PCI_ROM_ADDRESS;
  if (!isAddress) return 0xffffffff;
  for (let at = index - 1; at >= 0; at--) {
    const earlier = steps[at];
    if (earlier.op === 'open') break;
    if (earlier.op === 'config-write' && covers(earlier, offset)) return 0xffffffff;
  }
  return 0;
}

function sorted(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
}
