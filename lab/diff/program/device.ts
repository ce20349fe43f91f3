/** Random steps on a device itself: its life cycle, power, resets, config space and interrupts. */
import type { Step } from '../../../src/scenario/step.ts';
import type { DeviceTraits } from '../lenders.ts';
import type { ProgramCommand } from './command.ts';

const PM = 0x01;
const MSI = 0x05;
const EXP = 0x10;
const MSIX = 0x11;
const AF = 0x13;
/** Above every descriptor that a process has. */
const NO_DESCRIPTOR = 1 << 30;
/** The extended capability of Advanced Error Reporting. */
const ERR = 0x01;
const ARI = 0x0e;
const SRIOV = 0x10;

/** Each capability by id, with how many bytes to read, and whether it is extended. */
const CAPABILITIES: readonly [cap: number, bytes: number, ext: boolean][] = [
  [PM, 8, false],
  [EXP, 10, false],
  [MSIX, 12, false],
  [MSI, 14, false],
  [AF, 5, false],
  [ERR, 4, true],
  [ARI, 8, true],
  [SRIOV, 4, true],
];

export function deviceStep({ verb, a, b, c }: ProgramCommand, { name: device, vf }: DeviceTraits): Step | null {
  switch (verb) {
    case 'open': {
      const token = [vf?.token, vf?.token, vf?.token, undefined, '5a'.repeat(16)][a % 5];
      return { op: 'open', device, ...(token === undefined ? {} : { vfToken: token }) };
    }
    case 'close':
    case 'reset':
    case 'info':
      return { op: verb, device };
    case 'flr':
      return { op: a % 4 === 0 ? 'af-flr' : 'flr', device };
    case 'hot-reset':
      if (a % 4 === 0) return { op: 'hot-reset-info', device };
      return { op: 'hot-reset', device, ...(a % 8 === 1 ? { groups: b % 3 } : {}) };
    case 'memory':
      return { op: 'memory', device, on: a % 2 === 0 };
    case 'power':
      return { op: 'power', device, state: [0, 3, 1, 2, 0][a % 5] };
    case 'low-power':
      if (a % 7 < 2) return { op: 'low-power-entry-with-wakeup', device, as: 'wake' };
      return { op: a % 2 === 0 ? 'low-power-entry' : 'low-power-exit', device };
    case 'config-read': {
      const offset = [0, 2, 4, 5, 6, 8, 0xc, 0xe, 0x10, 0x14, 0x18, 0x30, 0x34, 0x3c, 0x3d, 0x100, 0xff, 0x1000][
        a % 18
      ];
      return { op: 'config-read', device, offset, size: size(b) };
    }
    case 'config-write':
      // COMMAND without bus mastering, a BAR, the ROM and the interrupt line: users write these all the time.
      return configWrite(device, vf !== undefined, a, b, c);
    case 'cap-read': {
      // No status registers: errors and pending transactions differ between hardware.
      const [cap, bytes, ext] = CAPABILITIES[a % CAPABILITIES.length];
      const at = { cap, offset: b % bytes, size: b % 2 === 0 ? 2 : 1 } as const;
      return { op: 'cap-read', device, ...at, ...(ext ? { ext } : {}) };
    }
    case 'cap-write':
      return capWrite(device, a, b, c);
    case 'irq-info':
      return { op: 'irq-info', device, index: a % 6 };
    case 'set-irqs':
      return setIrqs(device, a, b, c);
    default:
      return null;
  }
}

function size(number: number): 1 | 2 | 4 {
  return ([1, 2, 4] as const)[number % 3];
}

function configWrite(device: string, isVf: boolean, a: number, b: number, c: number): Step {
  // QEMU's virtual functions have an I/O bit, which they should not have (SR-IOV 1.1, 3.4.1.3).
  const on = isVf ? 2 : 3;
  const choices: [number, 1 | 2 | 4, number][] = [
    [4, 2, [0, 2, on, 0x402, 0x400][b % 5]],
    [4, 1, [0, 2][b % 2]],
    [4, 4, [0, 2, 0x402][b % 3]],
    [5, 1, [0, 4][b % 2]],
    [0x10, 4, [0xffffffff, 0, 0xfe000000][b % 3]],
    [0x14, 4, [0xffffffff, 0][b % 2]],
    [0x18, 4, [0xffffffff, 0][b % 2]],
    [0x30, 4, [0xfffff800, 0][b % 2]],
    [0x3c, 1, c],
    [0, 4, 0x12345678],
    [0x34, 1, c],
    [0xc, 2, c],
  ];
  const [offset, size, value] = choices[a % choices.length];
  return { op: 'config-write', device, offset, size, value };
}

function capWrite(device: string, a: number, b: number, c: number): Step {
  const choices: [cap: number, offset: number, size: 1 | 2 | 4, value: number][] = [
    [PM, 2, 2, c << 8],
    [PM, 4, 1, [0, 1, 3][b % 3]],
    [PM, 4, 4, [0, 3, 0x8000, 0x100][b % 4]],
    [PM, 5, 1, c],
    [EXP, 4, 4, c],
    [EXP, 8, 2, [0x2810, 0x00e0, 0x7000, 0x0000][b % 4]],
    [EXP, 9, 1, [0, 0x28][b % 2]],
    [MSI, 2, 2, c & 0x71],
    [MSI, 2, 1, c & 0x71],
    [MSI, 4, 4, 0xfee00000 + 4 * c],
    [MSI, 8, 4, c],
    [MSIX, 2, 2, [0, 0xc000, 0x4000][b % 3]],
    [MSIX, 4, 4, c],
    [AF, 4, 1, 0],
    [AF, 3, 1, c],
  ];
  const [cap, offset, size, value] = choices[a % choices.length];
  return { op: 'cap-write', device, cap, offset, size, value };
}

function setIrqs(device: string, a: number, b: number, c: number): Step {
  const none = 1;
  const bool = 2;
  const eventfd = 4;
  const mask = 8;
  const unmask = 16;
  const trigger = 32;
  const index = [2, 1, 0, 3, 4, 2][a % 6];
  const one = { op: 'set-irqs', device, index, start: 0, count: 1 } as const;
  const choices: Step[] = [
    { ...one, flags: eventfd | trigger, events: ['e0'] },
    { ...one, flags: eventfd | trigger, count: 2, events: ['e0', null] },
    { ...one, flags: eventfd | trigger, start: c % 6, events: [c % 3 === 0 ? 'e1' : null] },
    { ...one, flags: eventfd | trigger, count: 2, events: ['e1', [NO_DESCRIPTOR, -2][c % 2]] },
    { ...one, flags: none | trigger, count: 0 },
    { ...one, flags: none | trigger },
    { ...one, flags: bool | trigger, bools: [1] },
    { ...one, flags: bool | trigger, bools: [0] },
    { ...one, flags: none | mask },
    { ...one, flags: none | unmask },
    { ...one, flags: bool | mask, bools: [c % 2] },
    { ...one, flags: bool | unmask, bools: [c % 2] },
    { ...one, flags: eventfd | unmask, events: ['e1'] },
    { ...one, flags: eventfd | mask, events: ['e1'] },
    { ...one, flags: none | bool | trigger },
    { ...one, flags: none },
    { ...one, flags: none | mask, start: 1 },
    { op: 'event-count', event: ['e0', 'wake', 'e1'][c % 3] },
  ];
  return choices[b % choices.length];
}
