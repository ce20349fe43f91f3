/**
 * The whole chain on a real kernel. A Linux guest binds vfio-pci to a device that Barter serves, exports its BAR and
 * accesses its bytes. It gets every required refusal, and loses and regains the memory with the memory bit.
 */
import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import { packageFile } from '../../src/linux/package-file.ts';
import type { StepResult } from '../../src/scenario/step.ts';
import { type Step, scenarioSchema } from '../../src/scenario/step.ts';
import { Guest, guestAddress } from '../host/guest.ts';
import { type LabOptions, type LabResult, labRun, Served } from './run.ts';

const MACHINE = packageFile('examples/two-peers.yaml');
const FROM_GUEST = '6c656e742062792061206775657374';
const FROM_SERVER = '7365656e206279207468652067756573';
const GUEST_OFFSET = 0x10000;
const SERVER_OFFSET = 0x20000;

/** A step in the guest and its expected result: a value, or the errno of a refusal. */
type Expected = [name: string, step: Step, expected: unknown];

const device = 'lender';
const good: Expected[] = [
  ['open the device', { op: 'open', device }, null],
  ['set the memory bit', { op: 'memory', device, on: true }, null],
  ['export one range', { op: 'export', device, region: 0, ranges: [[0, 0x10000]], as: 'one' }, null],
  ['its size is the range', { op: 'lseek', fd: 'one', offset: 0, whence: 2 }, 0x10000],
  [
    'export two ranges',
    {
      op: 'export',
      device,
      region: 0,
      ranges: [
        [0x40000, 0x1000],
        [0x10000, 0x3000],
      ],
      as: 'two',
    },
    null,
  ],
  ['its size is their sum', { op: 'lseek', fd: 'two', offset: 0, whence: 2 }, 0x4000],
  ['the dma-buf cannot be mapped by the CPU', { op: 'mmap-fd', fd: 'one' }, 'EINVAL'],
  ['map the BAR', { op: 'mmap', device, region: 0, offset: 0, length: 0x40000, as: 'bar' }, null],
  ['write through the mapped BAR', { op: 'mmap-write', map: 'bar', offset: GUEST_OFFSET, bytes: FROM_GUEST }, null],
  ['read it back', { op: 'mmap-read', map: 'bar', offset: GUEST_OFFSET, length: FROM_GUEST.length / 2 }, FROM_GUEST],
  [
    "read the server's bytes",
    { op: 'mmap-read', map: 'bar', offset: SERVER_OFFSET, length: FROM_SERVER.length / 2 },
    FROM_SERVER,
  ],
];

const GET = 1 << 16;
const SET = 1 << 17;
const exporting = (fields: object): Step =>
  ({ op: 'export', device, region: 0, ranges: [[0, 4096]], ...fields }) as Step;
const bad: Expected[] = [
  ['no range', exporting({ ranges: [] }), 'EINVAL'],
  ['reserved flags', exporting({ flags: 1 }), 'EINVAL'],
  ['config space', exporting({ region: 7 }), 'ENODEV'],
  ['the upper half of a 64-bit BAR', exporting({ region: 1 }), 'ENODEV'],
  ['ranges that cannot be read', exporting({ nrRanges: 2 }), 'EFAULT'],
  ['more ranges than fit', exporting({ nrRanges: 262145 }), 'ENOMEM'],
  ['an empty range', exporting({ ranges: [[0, 0]] }), 'EINVAL'],
  ['an unaligned range', exporting({ ranges: [[16, 4096]] }), 'EINVAL'],
  ['a range past the end', exporting({ ranges: [[0x4000000, 4096]] }), 'EINVAL'],
  ['a range past the address space', exporting({ ranges: [['0xfffffffffffff000', 4096]] }), 'EOVERFLOW'],
  ['argsz too short', { op: 'feature', device, flags: GET | 11, argsz: 23, payload: '' }, 'EINVAL'],
  ['GET and SET', { op: 'feature', device, flags: GET | SET | 11, argsz: 24, payload: '' }, 'EINVAL'],
  ['an unknown feature', { op: 'feature', device, flags: GET | 0xff, argsz: 24, payload: '' }, 'ENOTTY'],
];

const memoryBit: Expected[] = [
  ['a peer attaches', { op: 'attach', fd: 'one', device: 'borrower', as: 'peer' }, null],
  ['and maps', { op: 'map', importer: 'peer', as: 'lent' }, [0x10000]],
  ['clear the memory bit', { op: 'memory', device, on: false }, null],
  ['the peer was told while it had a mapping', { op: 'callbacks', importer: 'peer' }, [1]],
  ['the peer cannot map', { op: 'map', importer: 'peer', as: 'again' }, 'ENODEV'],
  ['the mapped BAR faults', { op: 'mmap-read', map: 'bar', offset: GUEST_OFFSET, length: 4 }, 'SIGBUS'],
  ['read(2) fails', { op: 'region-read', device, region: 0, offset: 0, length: 4 }, 'EIO'],
  ['set it again', { op: 'memory', device, on: true }, null],
  [
    'the bytes are there',
    { op: 'mmap-read', map: 'bar', offset: GUEST_OFFSET, length: FROM_GUEST.length / 2 },
    FROM_GUEST,
  ],
  ['the peer maps again', { op: 'map', importer: 'peer', as: 'again' }, [0x10000]],
  ['the peer detaches', { op: 'detach', importer: 'peer' }, null],
  ['close a dma-buf', { op: 'close-fd', fd: 'one' }, null],
  ['close the device', { op: 'close', device }, null],
];

const requests: Expected[] = [...good, ...bad.map(([n, s, e]): Expected => [`refused: ${n}`, s, e]), ...memoryBit];

export function guestExport(options: LabOptions): Promise<LabResult> {
  const scenario = scenarioSchema.parse({
    scenario: 'guest-export',
    description: 'what the guest does',
    machine: 'two-peers',
    tasks: { guest: requests.map(([, step]) => step) },
  });
  return labRun(options, async (steps, started) => {
    const served = await steps.take(
      'serve the devices',
      async () => started.add(await Served.start(MACHINE)),
      processOf,
    );
    const devices = [served.qemuDevice('lender'), served.qemuDevice('borrower')];
    const guest = await steps.take('boot the guest', async () =>
      started.add(await Guest.boot({ devices, ...options })),
    );
    const { release } = await guest.call('hello', {});
    const addresses = { lender: guestAddress(0), borrower: guestAddress(1) };
    await steps.take('bind vfio-pci', () => guest.call('bind', { addresses: [addresses.lender] }));
    const bar = openSync(served.barFile('lender.bar0'), 'r+');
    try {
      writeSync(bar, Buffer.from(FROM_SERVER, 'hex'), 0, FROM_SERVER.length / 2, SERVER_OFFSET);
      const { steps: results, ms } = await guest.call('scenario', { scenario, addresses });
      for (const [i, [name, , expected]] of requests.entries())
        steps.compare(name, expected, given(results[i]?.result), ms[i]);
      const seen = Buffer.alloc(FROM_GUEST.length / 2);
      readSync(bar, seen, 0, seen.length, GUEST_OFFSET);
      steps.compare(`${processOf(served)} sees the guest's bytes`, FROM_GUEST, seen.toString('hex'));
    } finally {
      closeSync(bar);
    }
    return release;
  });
}

function processOf({ pid }: Served): string {
  return `process ${pid}`;
}

/** The result of a step, in the form of the expectations. */
function given(result: StepResult | undefined): unknown {
  if (result === undefined) return 'not reached';
  return 'ok' in result ? result.ok : result.errno;
}
