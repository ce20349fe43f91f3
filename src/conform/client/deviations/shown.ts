/** Deviations of what the device says of itself: limits, capabilities, regions, interrupts, config space. */
import { VFIO_REGION_INFO_FLAG_MMAP } from '../../../abi/vfio.ts';
import {
  VFIO_USER_DEVICE_GET_INFO,
  VFIO_USER_DEVICE_GET_IRQ_INFO,
  VFIO_USER_DEVICE_GET_REGION_INFO,
  VFIO_USER_REGION_READ,
  VFIO_USER_VERSION,
} from '../../../abi/vfio-user.ts';
import { type ClientDeviation, deviationsOf } from '../deviation.ts';
import { BAR_BYTES, type ShownDevice } from '../device.ts';

const INFO = VFIO_USER_DEVICE_GET_INFO;
const REGION = VFIO_USER_DEVICE_GET_REGION_INFO;
const IRQ = VFIO_USER_DEVICE_GET_IRQ_INFO;
const READ = VFIO_USER_REGION_READ;

const lawfulLimit = deviationsOf('limit', 'VFIO_USER_VERSION', true);
const wrongLimit = deviationsOf('limit', 'VFIO_USER_VERSION', false);
const json = (text: string) => ({
  device: (device: ShownDevice) => {
    device.json = text;
  },
});
const capabilities = (value: object) => json(JSON.stringify({ capabilities: value }));
const versioned = (major: number, minor: number) => ({
  device: (device: ShownDevice) => {
    device.major = major;
    device.minor = minor;
  },
});
const V = VFIO_USER_VERSION;
const LIMIT = [
  lawfulLimit('one-descriptor', 'max_msg_fds is 1.', V, capabilities({ max_msg_fds: 1 })),
  lawfulLimit('four-bytes', 'max_data_xfer_size is 4.', V, capabilities({ max_data_xfer_size: 4 })),
  lawfulLimit(
    'unknown-capabilities',
    'The JSON has names that nobody knows.',
    V,
    capabilities({ max_msg_fds: 8, colour: { of: ['a', 1, null] } }),
  ),
  lawfulLimit('no-capabilities', 'The JSON is empty.', V, json('{}')),
  lawfulLimit('no-json', 'There is no JSON.', V, json('')),
  lawfulLimit(
    'all-page-sizes',
    'pgsizes has every size from 4 KiB on.',
    V,
    json('{"capabilities":{"pgsizes":18446744073709547520}}'),
  ),
  lawfulLimit(
    'no-limits',
    'Every limit is 2^64-1.',
    V,
    json(
      '{"capabilities":{"max_msg_fds":8,"max_data_xfer_size":18446744073709551615,"max_dma_maps":18446744073709551615}}',
    ),
  ),
  wrongLimit(
    'nothing',
    'Every limit is 0.',
    V,
    capabilities({ max_msg_fds: 0, max_data_xfer_size: 0, max_dma_maps: 0, pgsizes: 0 }),
  ),
  wrongLimit(
    'negative',
    'Every limit is -1.',
    V,
    capabilities({ max_msg_fds: -1, max_data_xfer_size: -1, max_dma_maps: -1, pgsizes: -1 }),
  ),
  wrongLimit(
    'of-other-types',
    'The limits are text, a list, an object.',
    V,
    capabilities({ max_msg_fds: '8', max_data_xfer_size: [], max_dma_maps: {} }),
  ),
  wrongLimit('list', 'The JSON is a list.', V, json('[]')),
  wrongLimit('not-json', 'The text is not JSON.', V, json('{"capabilities":')),
  wrongLimit(
    'deep',
    'The JSON is 2,000 lists deep.',
    V,
    json(`{"capabilities":${'['.repeat(2000)}${']'.repeat(2000)}}`),
  ),
  wrongLimit('major-1', 'The version is 1.0.', V, versioned(1, 0)),
  wrongLimit('minor-77', 'The version is 0.77, more than was proposed.', V, versioned(0, 77)),
];

/** A capability with its header: id, version, and the place of the next one in the reply. */
function capability(id: number, next: number, body: Buffer, version = 1): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt16LE(id, 0);
  head.writeUInt16LE(version, 2);
  head.writeUInt32LE(next, 4);
  return Buffer.concat([head, body]);
}

function areas(list: readonly (readonly [offset: number, size: number])[], said = list.length): Buffer {
  const body = Buffer.alloc(8 + 16 * list.length);
  body.writeUInt32LE(said, 0);
  for (const [i, [offset, size]] of list.entries()) {
    body.writeBigUInt64LE(BigInt(offset), 8 + 16 * i);
    body.writeBigUInt64LE(BigInt(size), 16 + 16 * i);
  }
  return body;
}

const bar = (change: (region: ShownDevice['regions'][number]) => void) => ({
  device: (device: ShownDevice) => change(device.regions[0]),
});
const chain = (bytes: Buffer) =>
  bar((region) => {
    region.capabilities = bytes;
  });
const sparse = (list: readonly (readonly [number, number])[], said?: number) =>
  chain(capability(1, 0, areas(list, said)));
const FIRST = 32;

const lawfulRegion = deviationsOf('region', 'VFIO_USER_DEVICE_GET_REGION_INFO', true);
const wrongRegion = deviationsOf('region', 'VFIO_USER_DEVICE_GET_REGION_INFO', false);
const REGIONS = [
  lawfulRegion(
    'unknown-capability',
    'A region has a capability that nobody knows.',
    REGION,
    chain(capability(0x7777, 0, Buffer.alloc(24))),
  ),
  lawfulRegion(
    'unknown-then-sparse',
    'An unknown capability comes before the sparse areas.',
    REGION,
    chain(Buffer.concat([capability(0x7777, FIRST + 32, Buffer.alloc(24)), capability(1, 0, areas([[0, 0x4000]]))])),
  ),
  lawfulRegion(
    'sparse',
    'A BAR can be mapped in two areas.',
    REGION,
    sparse([
      [0, 0x1000],
      [0x4000, 0x2000],
    ]),
  ),
  lawfulRegion('sparse-none', 'A BAR has no area that can be mapped.', REGION, sparse([])),
  lawfulRegion(
    'not-mappable',
    'No BAR can be mapped.',
    REGION,
    bar((region) => {
      region.flags &= ~VFIO_REGION_INFO_FLAG_MMAP;
      region.fds = 0;
    }),
  ),
  wrongRegion('sparse-beyond', 'A sparse area ends behind the region.', REGION, sparse([[0, 2 * BAR_BYTES]])),
  wrongRegion('sparse-odd', 'A sparse area is not of whole pages.', REGION, sparse([[0x10, 0x101]])),
  wrongRegion(
    'sparse-overlap',
    'Two sparse areas overlap.',
    REGION,
    sparse([
      [0, 0x2000],
      [0x1000, 0x2000],
    ]),
  ),
  wrongRegion(
    'sparse-many',
    'The capability says that 2^32-1 areas follow.',
    REGION,
    sparse([[0, 0x1000]], 0xffff_ffff),
  ),
  wrongRegion(
    'sparse-wraps',
    'A sparse area wraps around.',
    REGION,
    bar((region) => {
      const body = areas([[0, 0x1000]]);
      body.writeBigUInt64LE(0xffff_ffff_ffff_f000n, 8);
      body.writeBigUInt64LE(0x2000n, 16);
      region.capabilities = capability(1, 0, body);
    }),
  ),
  wrongRegion(
    'chain-loop',
    'The chain of capabilities points to itself.',
    REGION,
    chain(capability(0x7777, FIRST, Buffer.alloc(24))),
  ),
  wrongRegion(
    'chain-beyond',
    'The chain points behind the reply.',
    REGION,
    chain(capability(0x7777, 0x10000, Buffer.alloc(24))),
  ),
  wrongRegion(
    'chain-into-the-head',
    'The chain points into the struct.',
    REGION,
    chain(capability(0x7777, 4, Buffer.alloc(24))),
  ),
  wrongRegion('chain-cut', 'The last capability is cut.', REGION, chain(Buffer.from([1, 0, 1, 0, 0, 0, 0, 0, 9]))),
  wrongRegion(
    'no-descriptor',
    'A BAR that can be mapped comes without a descriptor.',
    REGION,
    bar((region) => {
      region.fds = 0;
    }),
  ),
  wrongRegion(
    'two-descriptors',
    'A BAR comes with two descriptors.',
    REGION,
    bar((region) => {
      region.fds = 2;
    }),
  ),
  wrongRegion(
    'short-file',
    'The file of a BAR is shorter than the BAR.',
    REGION,
    bar((region) => {
      region.size = 4 * BAR_BYTES;
    }),
  ),
  wrongRegion(
    'offset-beyond',
    'A BAR lies behind the end of its file.',
    REGION,
    bar((region) => {
      region.offset = 0x1000_0000;
    }),
  ),
  wrongRegion(
    'offset-odd',
    'A BAR lies at an odd place of its file.',
    REGION,
    bar((region) => {
      region.offset = 0x123;
    }),
  ),
  wrongRegion(
    'odd-size',
    'A BAR has 12 KiB.',
    REGION,
    bar((region) => {
      region.size = 0x3000;
    }),
  ),
  wrongRegion(
    'largest-size',
    'A BAR has 2^52 bytes.',
    REGION,
    bar((region) => {
      region.size = 2 ** 52;
    }),
  ),
  wrongRegion('config-empty', 'Config space has 0 bytes.', REGION, {
    device: (device) => {
      device.regions[7].size = 0;
    },
  }),
  wrongRegion('config-short', 'Config space has 16 bytes.', REGION, {
    device: (device) => {
      device.regions[7].size = 16;
    },
  }),
  wrongRegion('config-huge', 'Config space has 1 GiB.', REGION, {
    device: (device) => {
      device.regions[7].size = 1 << 30;
    },
  }),
];

const wrongDevice = deviationsOf('device', 'VFIO_USER_DEVICE_GET_INFO', false);
const lawfulDevice = deviationsOf('device', 'VFIO_USER_DEVICE_GET_INFO', true);
const shown = (change: (device: ShownDevice) => void) => ({ device: change });
const DEVICE = [
  lawfulDevice(
    'no-reset',
    'The device cannot be reset.',
    INFO,
    shown((device) => {
      device.flags = 2;
    }),
  ),
  lawfulDevice(
    'more-regions',
    'The device has 12 regions.',
    INFO,
    shown((device) => {
      device.numRegions = 12;
      for (let i = 0; i < 3; i++) device.regions.push({ ...device.regions[8] });
    }),
  ),
  lawfulDevice(
    'no-msix',
    'The device has INTx alone.',
    IRQ,
    shown((device) => {
      device.irqs[2] = { flags: 0, count: 0 };
      device.config[0x34] = 0;
      device.config[6] = 0;
    }),
  ),
  lawfulDevice(
    'resets-itself',
    'The device forgets its command register between two accesses.',
    READ,
    shown((device) => {
      device.forgetsCommand = true;
    }),
  ),
  wrongDevice(
    'not-pci',
    'The device is not a PCI device.',
    INFO,
    shown((device) => {
      device.flags = 1;
    }),
  ),
  wrongDevice(
    'no-regions',
    'The device has no regions.',
    INFO,
    shown((device) => {
      device.numRegions = 0;
    }),
  ),
  wrongDevice(
    'no-irqs',
    'The device has no interrupt types.',
    INFO,
    shown((device) => {
      device.numIrqs = 0;
    }),
  ),
  wrongDevice(
    'many-regions',
    'The device has 2^32-1 regions.',
    INFO,
    shown((device) => {
      device.numRegions = 0xffff_ffff;
    }),
  ),
  wrongDevice(
    'many-irqs',
    'The device has 2^32-1 interrupt types.',
    INFO,
    shown((device) => {
      device.numIrqs = 0xffff_ffff;
    }),
  ),
  wrongDevice(
    'many-vectors',
    'MSI-X has 2^32-1 interrupts.',
    IRQ,
    shown((device) => {
      device.irqs[2].count = 0xffff_ffff;
    }),
  ),
  wrongDevice(
    'absent',
    'Config space reads as that of an empty slot.',
    READ,
    shown((device) => {
      device.config.fill(0xff);
    }),
  ),
  wrongDevice(
    'capability-loop',
    'The capabilities of config space point to each other.',
    READ,
    shown((device) => {
      device.config[0x41] = 0x40;
    }),
  ),
  wrongDevice(
    'capability-in-the-header',
    'The first capability lies in the header of config space.',
    READ,
    shown((device) => {
      device.config[0x34] = 4;
    }),
  ),
  wrongDevice(
    'table-beyond',
    'The table of MSI-X lies behind its BAR.',
    READ,
    shown((device) => {
      device.config.writeUInt32LE(0x7fff_0002, 0x44);
    }),
  ),
  wrongDevice(
    'table-nowhere',
    'The table of MSI-X lies in BAR 7.',
    READ,
    shown((device) => {
      device.config.writeUInt32LE(7, 0x44);
    }),
  ),
  wrongDevice(
    'table-full',
    'The table of MSI-X has 2,048 entries in 4 KiB.',
    READ,
    shown((device) => {
      device.config.writeUInt16LE(2047, 0x42);
    }),
  ),
  wrongDevice(
    'bridge',
    'The header of config space is that of a bridge.',
    READ,
    shown((device) => {
      device.config[0xe] = 1;
    }),
  ),
];

export const SHOWN_DEVIATIONS: readonly ClientDeviation[] = [LIMIT, REGIONS, DEVICE].flat();
