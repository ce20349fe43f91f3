/**
 * The side doors: what root does to a device from outside while a user has it and lends its memory. Each is tried in
 * each state of the lender. The judge sees only the results of steps.
 */
import { PCI_CAP_ID_PM, PCI_COMMAND, PCI_COMMAND_MEMORY, PCI_PM_CTRL } from '../../src/abi/pci_regs.ts';
import type { MachineDescription } from '../../src/machine/schema.ts';
import type { RunResult } from '../../src/scenario/run.ts';
import type { Step, StepOf } from '../../src/scenario/step.ts';
import { ProgramAnswers } from './answers.ts';
import { closing, type Door, doors, type LenderState, MAPPING, states } from './doors.ts';
import type { DeviceTraits } from './lenders.ts';
import type { Matrix, MatrixEntry, Violation } from './matrix.ts';
import { prefix } from './program/program.ts';

const STARTED = 'door';
const OTHER = 'other-door';

/** The stages of the buffer when the door opens. */
function stages({ name: device, region }: DeviceTraits): { name: string; before: Step[] }[] {
  const made: Step = { op: 'export', device, region, ranges: [[0, 4096]], as: 'buffer' };
  const attach: Step = { op: 'attach', fd: 'buffer', device: 'borrower', as: 'peer' };
  const map: Step = { op: 'map', importer: 'peer', as: 'lent' };
  return [
    { name: 'mapped', before: [made, attach, map] },
    { name: 'attached', before: [made, attach] },
    { name: 'descriptor-closed', before: [made, attach, map, { op: 'close-fd', fd: 'buffer' }] },
  ];
}

interface DoorEntry extends MatrixEntry {
  door: Door;
  state: LenderState;
}

const physfnOf = (devices: readonly DeviceTraits[], { vf }: DeviceTraits) =>
  devices.filter(({ name }) => name === vf?.physfn);

/** Every door in every state and stage, for the first device and for each virtual function. */
function entries(
  devices: readonly DeviceTraits[],
  description: MachineDescription,
  canInjectErrors: boolean,
): DoorEntry[] {
  const lenders = devices.filter(({ vf }, i) => i === 0 || vf !== undefined);
  return lenders.flatMap((traits) =>
    stages(traits).flatMap(({ name: stage, before }) =>
      states(traits).flatMap((state) =>
        doors(traits, description, canInjectErrors).map((door): DoorEntry => {
          const { name: device, region } = traits;
          const program: Step[] = [
            ...[...physfnOf(devices, traits), traits].flatMap(prefix),
            ...before,
            { op: 'mmap', device, region, offset: 0, length: 4096, as: MAPPING },
            ...state.steps,
            { op: 'callbacks', importer: 'peer' },
            ...(door.effect === 'waits' ? waiting(traits, door, state) : passing(traits, door, state)),
            { op: 'sysfs-power-control', device, control: 'auto' },
          ];
          const name = traits.vf === undefined ? door.name : `${door.name} (of a virtual function)`;
          return { stage, sequence: [state, { ...door, name }], program, door, state };
        }),
      ),
    ),
  );
}

/** The door, and then whether the peer may map and the memory can be used. */
function passing(traits: DeviceTraits, { steps }: Door, { isOpen }: LenderState): Step[] {
  const { name: device, region, vf } = traits;
  const asked: Step[] = [...steps, { op: 'callbacks', importer: 'peer' }, { op: 'map', importer: 'peer', as: 'lent1' }];
  if (!isOpen) return [...asked, ...reopening(traits)];
  return [
    ...asked,
    { op: 'mmap-read', map: MAPPING, offset: 0, length: 4 },
    // These wake a sleeping device.
    { op: 'cap-read', device, cap: PCI_CAP_ID_PM, offset: PCI_PM_CTRL, size: 1 },
    // A virtual function has no memory bit.
    ...(vf === undefined ? ([{ op: 'sysfs-config-read', device, offset: PCI_COMMAND, size: 1 }] as Step[]) : []),
    { op: 'callbacks', importer: 'peer' },
    { op: 'map', importer: 'peer', as: 'lent2' },
    { op: 'mmap-read', map: MAPPING, offset: 0, length: 4 },
    { op: 'export', device, region, ranges: [[0, 4096]], as: 'fresh' },
    { op: 'attach', fd: 'fresh', device: 'borrower', as: 'other' },
    { op: 'region-read', device, region, offset: 0, length: 4 },
  ];
}

/** A door that waits: the user closes the device, the door ends, and the device comes back to vfio-pci. */
function waiting(traits: DeviceTraits, { steps: [step] }: Door, { isOpen }: LenderState): Step[] {
  const { name: device } = traits;
  return [
    { op: 'start', step: step as StepOf<'start'>['step'], as: STARTED },
    // Whether everybody else waits, too.
    { op: 'start', step: { op: 'sysfs-rescan' }, as: OTHER },
    { op: 'callbacks', importer: 'peer' },
    { op: 'map', importer: 'peer', as: 'lent1' },
    ...(isOpen ? closing(device) : []),
    { op: 'callbacks', importer: 'peer' },
    { op: 'join', of: STARTED },
    { op: 'join', of: OTHER },
    ...comingBack(traits, step),
    ...reopening(traits),
  ];
}

function comingBack({ name: device, vf }: DeviceTraits, { op }: Step): Step[] {
  if (op === 'sysfs-numvfs') return [{ op, device: vf!.physfn, count: 1 }];
  return [...(op === 'sysfs-remove' ? ([{ op: 'sysfs-rescan' }] as Step[]) : []), { op: 'sysfs-bind', device }];
}

/** Opens the device again: a buffer of the first open stays dead. */
function reopening({ name: device, region, vf }: DeviceTraits): Step[] {
  return [
    { op: 'open', device, ...(vf === undefined ? {} : { vfToken: vf.token }) },
    { op: 'memory', device, on: true },
    { op: 'map', importer: 'peer', as: 'lent3' },
    { op: 'export', device, region, ranges: [[0, 4096]], as: 'fresh' },
    { op: 'attach', fd: 'fresh', device: 'borrower', as: 'other' },
  ];
}

function violations(entry: MatrixEntry, program: readonly Step[], result: RunResult): Violation[] {
  const { door, state } = entry as DoorEntry;
  const answers = new ProgramAnswers(program, result);
  const found: Violation[] = [];
  const broken = (invariant: Violation['invariant'], message: string) => found.push({ invariant, message });
  if (answers.maps('lent3')) broken('I1', 'a buffer of a closed device came back to life');
  if (answers.of('attach', 'other').some((answer) => !state.isOpen && answer !== null)) {
    broken('I6', 'after it is opened again, the device lends nothing');
  }
  if (door.effect === 'waits') {
    const [began, other] = answers.of('start');
    if (began !== (state.isOpen ? 'blocked' : 'ended')) broken('I7', `the door has ${began} too early or too late`);
    if (other !== 'ended') broken('I7', 'while the door waits for a user, nobody can change any bus');
    if (answers.of('join').some((end) => end !== null))
      broken('I7', 'the user has closed the device, and the door waits');
  } else if (state.isOpen) judgeOpen(entry as DoorEntry, answers, broken);
  return found;
}

/** Whether the memory can be used and a peer maps it, at once and when asked. */
function judgeOpen(
  { door, state, stage, program }: DoorEntry,
  answers: ProgramAnswers,
  broken: (invariant: Violation['invariant'], message: string) => void,
): void {
  const doorIs = answers.of(door.steps[0].op)[0];
  const isRefused = typeof doorIs === 'string';
  const wasTold = (answers.of('callbacks')[1] as number[]).length > 0;
  if (state.isLent && door.effect === 'interrupts' && stage !== 'attached' && !isRefused && !wasTold) {
    broken('I1', 'the memory did not answer for a time, and no peer was told');
  }
  const isVirtfn = program.some((step) => step.op === 'open' && step.vfToken !== undefined);
  const decodes = isVirtfn || ((answers.of('sysfs-config-read').at(-1) as number) & PCI_COMMAND_MEMORY) !== 0;
  const isD0 = ((answers.of('cap-read').at(-1) as number) & 3) === 0 || answers.of('cap-read').at(-1) === 'ENOENT';
  const reads = answers.of('mmap-read');
  const usable = reads[1] !== 'SIGBUS' && decodes && isD0;
  const judge = (when: string, maps: boolean, canBeUsed: boolean) => {
    if (maps && !canBeUsed) broken('I1', `${when}: a peer maps memory that cannot be used`);
    if (!maps && canBeUsed) broken('I6', `${when}: the memory can be used, and no peer maps it`);
  };
  // The registers are read after this map. A device that does not decode by then did not decode before, either.
  if (reads[0] === 'SIGBUS' || !decodes || !isD0) judge('at once', answers.maps('lent1'), false);
  judge('when asked', answers.maps('lent2'), usable);
  judge('for a new buffer', answers.of('attach', 'other').at(-1) === null, usable);
}

/** The finding that explains why Linux breaks an invariant by a door in a state. */
function findingOf({ invariant, message }: Violation, [state, door]: readonly string[]): string | null {
  if (invariant === 'I7') return message.includes('any bus') ? '15-removal-holds-all-buses.yaml' : null;
  if (state === 'asleep-with-wakeup' && invariant === 'I6') return '05-wake-restores-nothing.yaml';
  if (state.startsWith('asleep') && message.includes('a new buffer')) return '04-born-lent-in-low-power.yaml';
  if (door.startsWith('fatal-error')) return '16-a-fatal-error-resets-the-link.yaml';
  if (door.startsWith('reset-physfn')) return '07-reset-of-a-physical-function.yaml';
  if (door.startsWith('reset-bus-above')) return '12-reset-of-the-bus-above.yaml';
  if (door.startsWith('reset')) return '11-reset-from-sysfs.yaml';
  if (door.startsWith('config-')) return '13-config-from-sysfs.yaml';
  return null;
}

export const SIDE_DOORS: Matrix = { entries, violations, findingOf };
