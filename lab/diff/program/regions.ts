/** Random steps on a device's regions: access by the CPU, and lending. */
import { O_APPEND } from '../../../src/abi/fcntl.ts';
import type { Step } from '../../../src/scenario/step.ts';
import type { DeviceTraits } from '../lenders.ts';
import { PAGE, type ProgramCommand } from './command.ts';
import { type MadeNames, pick } from './names.ts';

const GET = 1 << 16;
const SET = 1 << 17;
const PROBE = 1 << 18;

/** Reads, writes and mappings of a device's regions; features and exports. */
export function regionStep(command: ProgramCommand, i: number, traits: DeviceTraits, names: MadeNames): Step | null {
  return accessStep(command, i, traits, names) ?? featureStep(command, i, traits, names);
}

function accessStep({ verb, a, b }: ProgramCommand, i: number, traits: DeviceTraits, names: MadeNames): Step | null {
  const { name: device, region, regionBytes, isMemory } = traits;
  const offset = [0, 4, PAGE, regionBytes - 4, regionBytes, regionBytes + 4][b % 6];
  switch (verb) {
    case 'region-info':
      return { op: 'region-info', device, region: a % 10 };
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

function featureStep(
  { verb, a, b, c }: ProgramCommand,
  i: number,
  traits: DeviceTraits,
  names: MadeNames,
): Step | null {
  const { name: device, region, regionBytes } = traits;
  switch (verb) {
    case 'feature': {
      const feature = [11, 3, 4, 5, 0, 1, 99][a % 7];
      // A successful GET of the export is `export`'s own step. None of these devices enters low power by a raw SET.
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

function badExport(a: number, b: number, { name: device, region, regionBytes }: DeviceTraits): Step {
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
    { openFlags: O_APPEND, ranges: [[0, PAGE]] },
  ];
  return { op: 'export', device, region, ranges: [[0, PAGE]], ...choices[a % choices.length] };
}
