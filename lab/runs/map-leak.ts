/** Measures the kernel memory that a mapping of a lent buffer leaves behind: docs/kernel-findings.md, 8. */
import { loadMachine } from '../../src/machine/load.ts';
import type { Scenario, Step } from '../../src/scenario/step.ts';
import { LAB_MACHINE } from '../diff/lenders.ts';
import { CommandError } from '../host/command.ts';
import { Guest, guestAddress } from '../host/guest.ts';
import { type LabOptions, type LabResult, labRun, Served } from './run.ts';

const MAPPINGS = 5000;
/** The slab of one struct scatterlist: its size rounded up to a size of kmalloc. */
const CACHE = /^kmalloc-(?:rnd-\d+-)?32 +(\d+)/gm;

export function mapLeak(options: LabOptions): Promise<LabResult> {
  return labRun(options, async (steps, started) => {
    const served = await steps.take('serve', async () => started.add(await Served.start(LAB_MACHINE)));
    const names = loadMachine(LAB_MACHINE).devices.map(({ name }) => name);
    const devices = names.map((name) => served.qemuDevice(name));
    const guest = await steps.take('boot the guest', async () =>
      started.add(await Guest.boot({ ...options, devices })),
    );
    const { release } = await guest.call('hello', {});
    const addresses = Object.fromEntries(names.map((name, i) => [name, guestAddress(i)]));
    await guest.call('bind', { addresses: [addresses.lender] });
    const mapAndUnmap = async (count: number) => {
      const { steps: taken } = await guest.call('scenario', { scenario: mappings(count), addresses });
      const refused = taken.find((step) => 'expected' in step);
      if (refused !== undefined) throw new CommandError(`${refused.op} gave ${JSON.stringify(refused.result)}`);
    };
    // The first mappings make all objects that are made once and stay.
    await mapAndUnmap(MAPPINGS / 10);
    const before = await objects(guest);
    await mapAndUnmap(MAPPINGS);
    const grown = (await objects(guest)) - before;
    steps.note(`objects of 32 bytes more after ${MAPPINGS} mappings that ended`, grown);
    steps.compare(
      'each leaves its scatterlist behind: docs/kernel-findings.md, 8',
      'about as many as mappings',
      Math.abs(grown / MAPPINGS - 1) < 0.1 ? 'about as many as mappings' : grown,
    );
    return release;
  });
}

function mappings(count: number): Scenario {
  const pair: Step[] = [
    { op: 'map', importer: 'peer', as: 'mapping', expect: [4096] },
    { op: 'unmap', map: 'mapping', expect: null },
  ];
  const user: Step[] = [
    { op: 'open', device: 'lender', expect: null },
    { op: 'memory', device: 'lender', on: true, expect: null },
    { op: 'export', device: 'lender', region: 0, ranges: [[0, 4096]], as: 'buffer', expect: null },
    { op: 'attach', fd: 'buffer', device: 'borrower', as: 'peer', expect: null },
    ...Array.from({ length: count }, () => pair).flat(),
  ];
  return { scenario: 'map-leak', description: 'maps and unmaps', machine: LAB_MACHINE, tasks: { user } };
}

/** The kernel's number of objects of that size, from /proc/slabinfo. */
async function objects(guest: Guest): Promise<number> {
  const { stdout } = await guest.call('shell', { command: 'cat /proc/slabinfo' });
  const counts = [...stdout.matchAll(CACHE)].map(([, count]) => Number(count));
  if (counts.length === 0) throw new CommandError('/proc/slabinfo of the guest has no kmalloc-32');
  return counts.reduce((sum, count) => sum + count, 0);
}
