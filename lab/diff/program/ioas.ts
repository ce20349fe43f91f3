/** Random programs on I/O address spaces: imports of a lender's buffers, and every trigger that takes them back. */
import type { Random } from '../../../src/explore/search/random.ts';
import type { Step } from '../../../src/scenario/step.ts';
import { MIN_COMMANDS, randomCommand } from './random-command.ts';

const PAGE = 4096;
const LARGE = 2 << 20;
const REGION = 0;
const REGION_BYTES = 64 << 20;

/** A command without names. Its numbers choose among the objects that exist when it runs. */
interface IoasCommand {
  verb: IoasVerb;
  a: number;
  b: number;
  c: number;
}

/** How often each verb comes, relative to the others. */
const WEIGHTS = {
  alloc: 3,
  attach: 6,
  detach: 2,
  destroy: 1,
  export: 10,
  'close-fd': 3,
  'map-file': 24,
  'bad-map-file': 6,
  unmap: 8,
  'unmap-many': 4,
  copy: 12,
  translations: 14,
  memory: 10,
  take: 5,
  reopen: 4,
} as const;
type IoasVerb = keyof typeof WEIGHTS;

/** The start of every program, which shrinking keeps. */
export const IOAS_PREFIX: readonly Step[] = [
  { op: 'open', device: 'lender', cdev: true },
  { op: 'open', device: 'second', cdev: true },
  { op: 'memory', device: 'lender', on: true },
];

/** Makes a program of at most `most` steps after the prefix. */
export function randomIoasProgram(random: Random, most: number): Step[] {
  const names: IoasNames = { fds: [], spaces: [], places: [], closed: new Set() };
  const length = MIN_COMMANDS + random.below(most - MIN_COMMANDS + 1);
  const commands = Array.from({ length }, (): IoasCommand => randomCommand(random, WEIGHTS));
  const all = random.below(4) === 0 ? commands : [...USUAL_START, ...commands];
  const steps = all.map((each, i) => spaceStep(each, i, names) ?? mapStep(each, names) ?? deviceStep(each, names));
  return [...IOAS_PREFIX, ...steps.filter((step) => step !== null)];
}

/** The usual start of a program, with everything that a mapping needs. */
const USUAL_START: readonly IoasCommand[] = [
  { verb: 'export', a: 1, b: 2, c: 3 },
  { verb: 'alloc', a: 0, b: 0, c: 0 },
  { verb: 'attach', a: 0, b: 1, c: 0 },
];

interface IoasNames {
  fds: { name: string; sizeBytes: number }[];
  spaces: string[];
  /** Every place of a mapping attempt, successful or not. */
  places: { ioas: string; iova: number; length: number }[];
  /** The devices that the program has closed, as far as it knows. */
  closed: Set<string>;
}

function pick<T>(list: readonly T[], number: number): T | null {
  return list.length === 0 ? null : list[number % list.length];
}

function deviceOf(number: number): string {
  return number % 4 === 0 ? 'lender' : 'second';
}

function spaceStep({ verb, a, b, c }: IoasCommand, i: number, names: IoasNames): Step | null {
  const ioas = pick(names.spaces, a);
  switch (verb) {
    case 'alloc':
      names.spaces.push(`space${i}`);
      return { op: 'ioas-alloc', as: `space${i}` };
    case 'attach':
      return ioas === null ? null : { op: 'ioas-attach', device: deviceOf(b), ioas };
    case 'detach':
      return { op: 'ioas-detach', device: deviceOf(b) };
    case 'destroy':
      return ioas === null ? null : { op: 'ioas-destroy', ioas };
    case 'translations':
      return { op: 'ioas-translations', device: deviceOf(b) };
    case 'export': {
      const unit = a % 3 === 0 ? LARGE : PAGE;
      const start = (b % 16) * unit;
      const length = (1 + (c % 4)) * unit;
      const second: [number, number][] = a % 7 === 0 ? [[REGION_BYTES - PAGE, PAGE]] : [];
      names.fds.push({ name: `buf${i}`, sizeBytes: length });
      return { op: 'export', device: 'lender', region: REGION, ranges: [[start, length], ...second], as: `buf${i}` };
    }
    case 'close-fd': {
      const fd = pick(names.fds, a);
      return fd === null ? null : { op: 'close-fd', fd: fd.name };
    }
    default:
      return null;
  }
}

function mapStep({ verb, a, b, c }: IoasCommand, names: IoasNames): Step | null {
  const ioas = pick(names.spaces, a);
  if (ioas === null) return null;
  const iova = LARGE * (1 + (b % 3)) + PAGE * (b % 5);
  switch (verb) {
    case 'map-file': {
      const fd = pick(names.fds, b);
      if (fd === null) return null;
      const length = c % 3 === 0 ? fd.sizeBytes : PAGE * (1 + (c % 3));
      const start = c % 4 === 0 ? PAGE : 0;
      names.places.push({ ioas, iova, length });
      return { op: 'ioas-map-file', ioas, fd: fd.name, start, length, iova };
    }
    case 'bad-map-file': {
      const fd = pick(names.fds, b);
      const [start, length, at] = BAD_MAPS[c % BAD_MAPS.length];
      return fd === null ? null : { op: 'ioas-map-file', ioas, fd: fd.name, start, length, iova: at };
    }
    case 'unmap': {
      const place = pick(names.places, b);
      if (place === null) return null;
      const length = c % 4 === 0 ? PAGE : place.length;
      return { op: 'ioas-unmap', ioas: place.ioas, iova: place.iova, length };
    }
    case 'unmap-many': {
      const [at, length] = BIG_UNMAPS[c % BIG_UNMAPS.length];
      return { op: 'ioas-unmap', ioas, iova: at, length };
    }
    case 'copy': {
      const place = pick(names.places, b);
      if (place === null) return null;
      const fromIova = place.iova + (c % 4 === 1 ? PAGE : 0);
      const length = [place.length, PAGE, 2 * PAGE, 0, 0x800][c % 5];
      const target = c % 3 === 0 ? iova : 5 * LARGE + PAGE * (c % 7);
      names.places.push({ ioas, iova: target, length });
      return { op: 'ioas-copy', ioas, from: place.ioas, fromIova, length, iova: target };
    }
    default:
      return null;
  }
}

const U64_MAX = '0xffffffffffffffff';

/** Start, length, IOVA. */
const BAD_MAPS: readonly [number | string, number | string, number | string][] = [
  [0, 0, LARGE],
  [0x800, PAGE, LARGE],
  [0, 0x800, LARGE],
  [0, PAGE, LARGE + 0x800],
  [64 << 20, PAGE, LARGE],
  [0, 64 << 20, LARGE],
  [U64_MAX, 2, LARGE],
  [0, U64_MAX, LARGE],
  [0, PAGE, U64_MAX],
  [0, PAGE, 0xfee00000],
  [0, 2 * PAGE, 0xfedff000],
  [0, PAGE, 0xfef00000],
  [0, PAGE, '0x1000000000000'],
  [0, PAGE, 0xfffffffff000],
];

const BIG_UNMAPS: readonly [number | string, number | string][] = [
  [0, U64_MAX],
  [LARGE, 8 * LARGE],
  [0, 2 * LARGE],
  [LARGE + PAGE, LARGE],
  [LARGE, 0],
  [1, U64_MAX],
  ['0xfffffffffffff000', 0x2000],
  [0, '0xfffffffffffff000'],
];

function deviceStep({ verb, a, b }: IoasCommand, { closed }: IoasNames): Step | null {
  switch (verb) {
    case 'memory':
      return { op: 'memory', device: 'lender', on: a % 2 === 0 };
    case 'take':
      return TAKES[a % TAKES.length];
    case 'reopen': {
      const name = deviceOf(b);
      // Opens the device by its group, or a second time.
      if (a % 6 === 0) return { op: 'open', device: name };
      if (a % 6 === 1) return { op: 'open', device: name, cdev: true };
      if (closed.delete(name)) return { op: 'open', device: name, cdev: true };
      closed.add(name);
      return { op: 'close', device: name };
    }
    default:
      return null;
  }
}

const device = 'lender';
const TAKES: readonly Step[] = [
  { op: 'flr', device },
  { op: 'reset', device },
  { op: 'power', device, state: 3 },
  { op: 'power', device, state: 0 },
  { op: 'power', device, state: 1 },
  { op: 'low-power-entry', device },
  { op: 'low-power-exit', device },
];
