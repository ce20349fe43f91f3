/** The side doors, and the states of the lender in which they are tried. */
import {
  PCI_CAP_ID_EXP,
  PCI_CAP_ID_PM,
  PCI_COMMAND,
  PCI_COMMAND_MEMORY,
  PCI_EXP_DEVCTL,
  PCI_EXP_DEVCTL_BCR_FLR,
  PCI_PM_CTRL,
} from '../../src/abi/pci_regs.ts';
import { buildMachine } from '../../src/machine/build.ts';
import type { MachineDescription } from '../../src/machine/schema.ts';
import type { Step } from '../../src/scenario/step.ts';
import type { DeviceTraits } from './lenders.ts';
import type { TriggerSteps } from './matrix.ts';

/** A side door. `effect` says what a correct kernel does for the peers meanwhile. */
export interface Door extends TriggerSteps {
  /** `interrupts`: the memory does not answer for a moment. `waits`: until the user has closed the device. */
  effect: 'none' | 'interrupts' | 'waits';
}

/** A state of the lender that its user made. */
export interface LenderState extends TriggerSteps {
  /** The buffer is lent when the door opens. */
  isLent: boolean;
  isOpen: boolean;
}

export const MAPPING = 'bar';

export function states({ name: device }: DeviceTraits): LenderState[] {
  const one = (name: string, ...steps: object[]): LenderState => ({
    name,
    steps: steps.map((step) => ({ device, ...step }) as Step),
    isLent: false,
    isOpen: true,
  });
  return [
    { name: 'lent', steps: [], isLent: true, isOpen: true },
    one('memory-off', { op: 'memory', on: false }),
    one('D3hot', { op: 'power', state: 3 }),
    one('asleep', { op: 'low-power-entry' }),
    one('asleep-with-wakeup', { op: 'low-power-entry-with-wakeup', as: 'wake' }),
    { name: 'closed', steps: closing(device), isLent: false, isOpen: false },
  ];
}

export function closing(device: string): Step[] {
  return [
    { op: 'munmap', map: MAPPING },
    { op: 'close', device },
  ];
}

export function doors(traits: DeviceTraits, description: MachineDescription, canInjectErrors: boolean): Door[] {
  const { name: device, vf } = traits;
  const one = (name: string, effect: Door['effect'], step: object): Door => ({
    name,
    effect,
    steps: [{ device, ...step } as Step],
  });
  const config = (name: string, effect: Door['effect'], offset: number, size: number, value: number) =>
    one(name, effect, { op: 'sysfs-config-write', offset, size, value });
  const registers = buildMachine(description).functions.get(device)!.config;
  const [pm, express] = [PCI_CAP_ID_PM, PCI_CAP_ID_EXP].map((id) => registers.find(id));
  const power = (state: number) =>
    config(`config-D${state}`, state === 0 ? 'none' : 'interrupts', pm + PCI_PM_CTRL, 2, state);
  const resets = (['flr', 'af_flr', 'pm', 'bus'] as const).map((method) =>
    one(`reset-${method}`, 'interrupts', { op: 'sysfs-reset', method }),
  );
  return [
    one('reset', 'interrupts', { op: 'sysfs-reset' }),
    ...resets,
    one('reset-bus-above', 'interrupts', { op: 'sysfs-reset-subordinate' }),
    ...(vf === undefined
      ? [
          config('config-memory-off', 'interrupts', PCI_COMMAND, 1, 0),
          config('config-memory-on', 'none', PCI_COMMAND, 1, PCI_COMMAND_MEMORY),
        ]
      : []),
    // The registers of a served device survive a reset: its server restores them, as vfio-pci does.
    ...(pm === 0 ? [] : traits.isMemory ? [power(3)] : [power(0), power(3)]),
    ...(express === 0 || traits.isMemory
      ? []
      : [config('config-flr', 'interrupts', express + PCI_EXP_DEVCTL, 2, PCI_EXP_DEVCTL_BCR_FLR)]),
    ...(canInjectErrors ? errors(vf?.physfn ?? device) : []),
    one('power-on', 'none', { op: 'sysfs-power-control', control: 'on' }),
    one('power-auto', 'none', { op: 'sysfs-power-control', control: 'auto' }),
    one('d3cold-forbidden', 'none', { op: 'sysfs-d3cold-allowed', allowed: false }),
    one('d3cold-allowed', 'none', { op: 'sysfs-d3cold-allowed', allowed: true }),
    { name: 'rescan', effect: 'none', steps: [{ op: 'sysfs-rescan' }] },
    one('bind', 'none', { op: 'sysfs-bind' }),
    one('unbind', 'waits', { op: 'sysfs-unbind' }),
    ...(vf === undefined ? [one('remove', 'waits', { op: 'sysfs-remove' })] : doorsOfPhysfn(vf.physfn)),
  ];
}

function errors(device: string): Door[] {
  return [
    { name: 'error', effect: 'none', steps: [{ op: 'aer-inject', device, fatal: false }] },
    { name: 'fatal-error', effect: 'interrupts', steps: [{ op: 'aer-inject', device, fatal: true }] },
  ];
}

/** What root does to the physical function of a lender. */
function doorsOfPhysfn(device: string): Door[] {
  return [
    { name: 'reset-physfn', effect: 'interrupts', steps: [{ op: 'sysfs-reset', device }] },
    { name: 'numvfs-same', effect: 'none', steps: [{ op: 'sysfs-numvfs', device, count: 1 }] },
    { name: 'numvfs-0', effect: 'waits', steps: [{ op: 'sysfs-numvfs', device, count: 0 }] },
  ];
}
