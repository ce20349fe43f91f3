/** Random programs: steps on a lender, its buffers and their importers, as a user and a driver might take them. */
import fc from 'fast-check';
import type { Step } from '../../src/scenario/step.ts';

const device = 'lender';
const PAGE = 4096;
const GET = 1 << 16;
const SET = 1 << 17;
const PROBE = 1 << 18;

/** What a program may do to a lender; the registers behind igb's BARs are not memory. */
export interface LenderTraits {
  /** A BAR that can be lent, its size, and whether its bytes are plain memory. */
  region: number;
  regionBytes: number;
  isMemory: boolean;
  /**
   * QEMU's root port does not report the link of a PCI Express device again after a bus reset: Linux says ENOTTY
   * then.
   */
  hotReset: boolean;
}

/** A command before names are given: its numbers choose among what there is by then. */
interface Command {
  verb: Verb;
  a: number;
  b: number;
  c: number;
}

/** How often each verb comes, relative to the others. */
const WEIGHTS = {
  open: 1,
  close: 2,
  memory: 12,
  power: 8,
  flr: 3,
  reset: 3,
  'hot-reset': 1,
  'low-power': 6,
  'config-read': 5,
  'config-write': 3,
  'cap-read': 5,
  'region-info': 2,
  'irq-info': 2,
  info: 1,
  'region-read': 4,
  'region-write': 3,
  mmap: 4,
  'mmap-read': 6,
  munmap: 2,
  'set-irqs': 6,
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
  attach: 12,
  map: 14,
  unmap: 7,
  detach: 5,
  pin: 2,
  fence: 5,
  signal: 5,
  callbacks: 8,
} as const;
type Verb = keyof typeof WEIGHTS;

const verb = fc.oneof(
  ...Object.entries(WEIGHTS).map(([name, weight]) => ({ weight, arbitrary: fc.constant(name as Verb) })),
);
const command: fc.Arbitrary<Command> = fc.record({ verb, a: fc.nat(255), b: fc.nat(255), c: fc.nat(255) });

/** Programs of `most` steps at most; each begins with an open and with the memory bit set. */
export function programs(traits: LenderTraits, most: number): fc.Arbitrary<Step[]> {
  return fc.array(command, { minLength: 4, maxLength: most, size: 'max' }).map((commands) => resolve(commands, traits));
}

interface Names {
  fds: string[];
  syncs: string[];
  importers: string[];
  mappings: string[];
  fences: string[];
  maps: string[];
}

function resolve(commands: readonly Command[], traits: LenderTraits): Step[] {
  const names: Names = { fds: [], syncs: [], importers: [], mappings: [], fences: [], maps: [] };
  const steps: Step[] = prefix(traits);
  for (const [i, each] of commands.entries()) {
    const step = deviceStep(each, i, traits, names) ?? bufferStep(each, i, names) ?? importerStep(each, i, names);
    if (step !== null) steps.push(step);
  }
  return steps;
}

/** What every program begins with, and keeps when it is shrunk: the lender open, decoding, and with the same bytes. */
export function prefix({ region, regionBytes, isMemory }: LenderTraits): Step[] {
  const written = isMemory ? [0, 4, PAGE, 2 * PAGE, regionBytes - 4] : [];
  const bytes = '00000000';
  return [
    { op: 'open', device },
    { op: 'memory', device, on: true },
    ...written.map((offset): Step => ({ op: 'region-write', device, region, offset, bytes })),
  ];
}

function pick<T>(list: readonly T[], number: number): T | null {
  return list.length === 0 ? null : list[number % list.length];
}

function deviceStep({ verb, a, b, c }: Command, i: number, traits: LenderTraits, names: Names): Step | null {
  switch (verb) {
    case 'open':
    case 'close':
    case 'flr':
    case 'reset':
    case 'info':
      return { op: verb, device };
    case 'hot-reset':
      return traits.hotReset ? { op: verb, device } : null;
    case 'memory':
      return { op: 'memory', device, on: a % 2 === 0 };
    case 'power':
      return { op: 'power', device, state: [0, 3, 1, 2, 0][a % 5] };
    case 'low-power':
      return { op: a % 2 === 0 ? 'low-power-entry' : 'low-power-exit', device };
    case 'config-read':
      return {
        op: 'config-read',
        device,
        offset: [0, 2, 4, 5, 6, 8, 0x10, 0x14, 0x30, 0x34, 0x3c, 0x3d][a % 12],
        size: size(b),
      };
    case 'config-write':
      // COMMAND without bus mastering, a BAR, the ROM, the interrupt line: what a user writes all the time.
      return configWrite(a, b, c);
    case 'cap-read':
      return { op: 'cap-read', device, cap: [0x01, 0x10, 0x11, 0x05, 0x13][a % 5], offset: 2 * (b % 10), size: 2 };
    case 'region-info':
      return { op: 'region-info', device, region: a % 10 };
    case 'irq-info':
      return { op: 'irq-info', device, index: a % 6 };
    case 'set-irqs':
      return setIrqs(a, b, c);
    default:
      return regionStep({ verb, a, b, c }, i, traits, names) ?? featureStep({ verb, a, b, c }, i, traits, names);
  }
}

function size(number: number): 1 | 2 | 4 {
  return ([1, 2, 4] as const)[number % 3];
}

function configWrite(a: number, b: number, c: number): Step {
  const choices: [number, 1 | 2 | 4, number][] = [
    [4, 2, [0, 2, 3, 0x402, 0x400][b % 5]],
    [4, 1, [0, 2][b % 2]],
    [5, 1, [0, 4][b % 2]],
    [0x10, 4, [0xffffffff, 0, 0xfe000000][b % 3]],
    [0x14, 4, [0xffffffff, 0][b % 2]],
    [0x30, 4, [0xfffff800, 0][b % 2]],
    [0x3c, 1, c],
    [0, 4, 0x12345678],
    [0x34, 1, c],
  ];
  const [offset, size, value] = choices[a % choices.length];
  return { op: 'config-write', device, offset, size, value };
}

function setIrqs(a: number, b: number, c: number): Step {
  const none = 1;
  const bool = 2;
  const eventfd = 4;
  const trigger = 32;
  const index = [2, 1, 0, 3, 4, 2][a % 6];
  const choices: Step[] = [
    { op: 'set-irqs', device, flags: eventfd | trigger, index, start: 0, count: 1, events: ['e0'] },
    { op: 'set-irqs', device, flags: eventfd | trigger, index, start: 0, count: 2, events: ['e0', null] },
    { op: 'set-irqs', device, flags: eventfd | trigger, index, start: c % 6, count: 1, events: [null] },
    { op: 'set-irqs', device, flags: none | trigger, index, start: 0, count: 0 },
    { op: 'set-irqs', device, flags: none | trigger, index, start: 0, count: 1 },
    { op: 'set-irqs', device, flags: bool | trigger, index, start: 0, count: 1, bools: [1] },
    { op: 'set-irqs', device, flags: bool | trigger, index, start: 0, count: 1, bools: [0] },
    { op: 'set-irqs', device, flags: none | 8, index, start: 0, count: 1 },
    { op: 'set-irqs', device, flags: none | 16, index, start: 0, count: 1 },
    { op: 'set-irqs', device, flags: none | bool | trigger, index, start: 0, count: 1 },
    { op: 'set-irqs', device, flags: none, index, start: 0, count: 1 },
    { op: 'event-count', event: 'e0' },
  ];
  return choices[b % choices.length];
}

function regionStep({ verb, a, b }: Command, i: number, traits: LenderTraits, names: Names): Step | null {
  const { region, regionBytes, isMemory } = traits;
  const offset = [0, 4, PAGE, regionBytes - 4, regionBytes, regionBytes + 4][b % 6];
  switch (verb) {
    case 'region-read':
      if (!isMemory && a % 8 < 7) return null;
      return { op: 'region-read', device, region: a % 8 === 7 ? 9 : region, offset, length: 4 };
    case 'region-write':
      if (!isMemory) return null;
      return { op: 'region-write', device, region, offset, bytes: a.toString(16).padStart(2, '0').repeat(4) };
    case 'mmap':
      if (!isMemory) return null;
      names.maps.push(`map${i}`);
      return {
        op: 'mmap',
        device,
        region: a % 8 === 7 ? 7 : region,
        offset: (b % 3) * PAGE,
        length: PAGE,
        as: `map${i}`,
      };
    case 'mmap-read':
    case 'munmap': {
      const map = pick(names.maps, a);
      if (map === null) return null;
      if (verb === 'munmap') return { op: 'munmap', map };
      const bytes = b.toString(16).padStart(2, '0');
      return b % 3 === 0 ? { op: 'mmap-write', map, offset: 0, bytes } : { op: 'mmap-read', map, offset: 0, length: 4 };
    }
    default:
      return null;
  }
}

function featureStep({ verb, a, b, c }: Command, i: number, traits: LenderTraits, names: Names): Step | null {
  const { region, regionBytes } = traits;
  switch (verb) {
    case 'feature': {
      const feature = [11, 3, 4, 5, 0, 1, 99][a % 7];
      // A GET of the export that succeeds is what `export` does; and no device of these sleeps by a raw SET.
      const method = [PROBE, PROBE | GET, PROBE | SET, GET | SET, 0, 1 << 20][b % 6];
      return {
        op: 'feature',
        device,
        flags: (feature | method) >>> 0,
        argsz: [8, 24, 7, 16][c % 4],
        payload: '00'.repeat(16),
      };
    }
    case 'export': {
      const pages = regionBytes / PAGE;
      const start = (b % Math.min(pages, 64)) * PAGE;
      const length = (1 + (c % Math.min(pages - (b % Math.min(pages, 64)), 16))) * PAGE;
      const second: [number, number][] = a % 4 === 0 ? [[0, PAGE]] : [];
      names.fds.push(`buf${i}`);
      return { op: 'export', device, region, ranges: [[start, length], ...second], as: `buf${i}` };
    }
    case 'bad-export':
      return badExport(a, b, traits);
    default:
      return null;
  }
}

function badExport(a: number, b: number, { region, regionBytes }: LenderTraits): Step {
  const top = '0xfffffffffffff000';
  const choices: Partial<Extract<Step, { op: 'export' }>>[] = [
    { ranges: [] },
    { flags: 1 },
    { region: 6 + (b % 4) },
    { region: 5 },
    { nrRanges: 2 },
    { nrRanges: 262145 },
    { nrRanges: 262144 },
    { ranges: [[0, 0]] },
    { ranges: [[1, PAGE]] },
    { ranges: [[0, 100]] },
    { ranges: [[regionBytes, PAGE]] },
    { ranges: [[regionBytes - PAGE, 2 * PAGE]] },
    { ranges: [[top, PAGE]] },
    {
      ranges: [
        [0, top],
        [0, 2 * PAGE],
      ],
    },
    { ranges: [[0, '0x8000000000000000']] },
    { openFlags: 0xffffffff, ranges: [[0, PAGE]] },
    { openFlags: 0o2000, ranges: [[0, PAGE]] },
  ];
  return { op: 'export', device, region, ranges: [[0, PAGE]], ...choices[a % choices.length] };
}

function bufferStep({ verb, a, b, c }: Command, i: number, names: Names): Step | null {
  if (verb === 'export-sync-file' || verb === 'import-sync-file') return syncFileStep(verb, a, b, c, i, names);
  const fd = pick(names.fds, a);
  if (fd === null) return null;
  switch (verb) {
    case 'close-fd':
    case 'mmap-fd':
    case 'poll':
    case 'fdinfo':
      return { op: verb, fd };
    case 'dup-fd':
      names.fds.push(`dup${i}`);
      return { op: 'dup-fd', fd, as: `dup${i}` };
    case 'lseek':
      return { op: 'lseek', fd, offset: [0, 0, 1][b % 3], whence: c % 4 };
    case 'set-name':
      return { op: 'set-name', fd, name: 'n'.repeat([1, 31, 32][b % 3]) };
    case 'sync':
      return { op: 'sync', fd, flags: b % 9 };
    default:
      return null;
  }
}

function syncFileStep(verb: Verb, a: number, b: number, c: number, i: number, names: Names): Step | null {
  const fd = pick(names.fds, a);
  if (fd === null) return null;
  if (verb === 'export-sync-file') {
    names.syncs.push(`sync${i}`);
    return { op: 'export-sync-file', fd, flags: b % 5, as: `sync${i}` };
  }
  return { op: 'import-sync-file', fd, flags: b % 5, sync: pick(names.syncs, c) ?? 'none' };
}

function importerStep({ verb, a, b }: Command, i: number, names: Names): Step | null {
  if (verb === 'attach') {
    const fd = pick(names.fds, a);
    if (fd === null) return null;
    names.importers.push(`imp${i}`);
    const kind = (['dynamic', 'dynamic', 'dynamic', 'dynamic', 'static', 'no-p2p', 'no-callback'] as const)[b % 7];
    return { op: 'attach', fd, device: 'borrower', as: `imp${i}`, kind, onInvalidate: b % 5 === 4 ? 'keep' : 'unmap' };
  }
  const fence = pick(names.fences, a);
  if (verb === 'signal') return fence === null ? null : { op: 'signal-fence', fence };
  const map = pick(names.mappings, a);
  if (verb === 'unmap') return map === null ? null : { op: 'unmap', map };
  const importer = pick(names.importers, a);
  if (importer === null) return null;
  switch (verb) {
    case 'map':
      names.mappings.push(`dma${i}`);
      return { op: 'map', importer, as: `dma${i}` };
    case 'detach':
    case 'callbacks':
      return { op: verb, importer };
    case 'pin':
      return { op: b % 2 === 0 ? 'pin' : 'unpin', importer };
    case 'fence':
      names.fences.push(`fence${i}`);
      return {
        op: 'add-fence',
        importer,
        usage: (['kernel', 'write', 'read', 'bookkeep'] as const)[b % 4],
        as: `fence${i}`,
      };
    default:
      return null;
  }
}
