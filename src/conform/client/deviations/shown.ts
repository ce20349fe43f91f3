/** Deviations of what the device says of itself: limits, capabilities, regions, interrupts, config space. */
import {
  VFIO_DEVICE_FLAGS_PCI,
  VFIO_DEVICE_FLAGS_RESET,
  VFIO_PCI_CONFIG_REGION_INDEX,
  VFIO_PCI_MSIX_IRQ_INDEX,
  vfio_info_cap_header,
} from '../../../abi/vfio.ts';
import {
  VFIO_USER_DEVICE_GET_INFO,
  VFIO_USER_DEVICE_GET_IRQ_INFO,
  VFIO_USER_DEVICE_GET_REGION_INFO,
  VFIO_USER_REGION_READ,
  VFIO_USER_VERSION,
} from '../../../abi/vfio-user.ts';
import { type ClientDeviation, deviationsOf } from '../deviation.ts';
import { BAR_BYTES, READ_WRITE, type ShownDevice, type ShownRegion } from '../device.ts';

const INFO = VFIO_USER_DEVICE_GET_INFO;
const REGION = VFIO_USER_DEVICE_GET_REGION_INFO;
const IRQ = VFIO_USER_DEVICE_GET_IRQ_INFO;
const READ = VFIO_USER_REGION_READ;

/** A device with these fields. */
const shown = (fields: Partial<ShownDevice>) => ({
  device: (device: ShownDevice) => void Object.assign(device, fields),
});
/** A device with these fields of a region. */
const region = (index: number, fields: Partial<ShownRegion>) => ({
  device: ({ regions }: ShownDevice) => void Object.assign(regions[index], fields),
});
const bar = (fields: Partial<ShownRegion>) => region(0, fields);
const configRegion = (size: number) => region(VFIO_PCI_CONFIG_REGION_INDEX, { size });
/** A device with a change in config space. */
const config = (change: (bytes: Buffer) => void) => ({ device: ({ config }: ShownDevice) => change(config) });

const lawfulLimit = deviationsOf('limit', 'VFIO_USER_VERSION', true);
const wrongLimit = deviationsOf('limit', 'VFIO_USER_VERSION', false);
const json = (text: string) => shown({ json: text });
const capabilities = (value: object) => json(JSON.stringify({ capabilities: value }));
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
  wrongLimit('major-1', 'The version is 1.0.', V, shown({ major: 1 })),
  wrongLimit('minor-77', 'The version is 0.77, more than was proposed.', V, shown({ minor: 77 })),
];

/** A capability with its header: its id, and the place of the next one in the reply. */
function capability(id: number, next: number, body: Buffer): Buffer {
  return Buffer.concat([vfio_info_cap_header.encode({ id, version: 1, next }), body]);
}

type ListedArea = readonly [offset: number | bigint, size: number | bigint];

function areas(list: readonly ListedArea[], said = list.length): Buffer {
  const body = Buffer.alloc(8 + 16 * list.length);
  body.writeUInt32LE(said, 0);
  for (const [i, [offset, size]] of list.entries()) {
    body.writeBigUInt64LE(BigInt(offset), 8 + 16 * i);
    body.writeBigUInt64LE(BigInt(size), 16 + 16 * i);
  }
  return body;
}

const chain = (bytes: Buffer) => bar({ capabilities: bytes });
const sparse = (list: readonly ListedArea[], said?: number) => chain(capability(1, 0, areas(list, said)));
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
  lawfulRegion('not-mappable', 'No BAR can be mapped.', REGION, bar({ flags: READ_WRITE, fds: 0 })),
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
  wrongRegion('sparse-wraps', 'A sparse area wraps around.', REGION, sparse([[0xffff_ffff_ffff_f000n, 0x2000n]])),
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
  wrongRegion('no-descriptor', 'A BAR that can be mapped comes without a descriptor.', REGION, bar({ fds: 0 })),
  wrongRegion('two-descriptors', 'A BAR comes with two descriptors.', REGION, bar({ fds: 2 })),
  wrongRegion('short-file', 'The file of a BAR is shorter than the BAR.', REGION, bar({ size: 4 * BAR_BYTES })),
  wrongRegion('offset-beyond', 'A BAR lies behind the end of its file.', REGION, bar({ offset: 0x1000_0000 })),
  wrongRegion('offset-odd', 'A BAR lies at an odd place of its file.', REGION, bar({ offset: 0x123 })),
  wrongRegion('odd-size', 'A BAR has 12 KiB.', REGION, bar({ size: 0x3000 })),
  wrongRegion('largest-size', 'A BAR has 2^52 bytes.', REGION, bar({ size: 2 ** 52 })),
  wrongRegion('config-empty', 'Config space has 0 bytes.', REGION, configRegion(0)),
  wrongRegion('config-short', 'Config space has 16 bytes.', REGION, configRegion(16)),
  wrongRegion('config-huge', 'Config space has 1 GiB.', REGION, configRegion(1 << 30)),
];

const wrongDevice = deviationsOf('device', 'VFIO_USER_DEVICE_GET_INFO', false);
const lawfulDevice = deviationsOf('device', 'VFIO_USER_DEVICE_GET_INFO', true);
const DEVICE = [
  lawfulDevice('no-reset', 'The device cannot be reset.', INFO, shown({ flags: VFIO_DEVICE_FLAGS_PCI })),
  lawfulDevice('more-regions', 'The device has 12 regions.', INFO, {
    device: (device) => {
      device.numRegions = 12;
      for (let i = 0; i < 3; i++) device.regions.push({ ...device.regions[8] });
    },
  }),
  lawfulDevice('no-msix', 'The device has INTx alone.', IRQ, {
    device: ({ irqs, config }) => {
      irqs[VFIO_PCI_MSIX_IRQ_INDEX] = { flags: 0, count: 0 };
      config[0x34] = 0;
      config[6] = 0;
    },
  }),
  lawfulDevice(
    'resets-itself',
    'The device forgets its command register between two accesses.',
    READ,
    shown({ forgetsCommand: true }),
  ),
  wrongDevice('not-pci', 'The device is not a PCI device.', INFO, shown({ flags: VFIO_DEVICE_FLAGS_RESET })),
  wrongDevice('no-regions', 'The device has no regions.', INFO, shown({ numRegions: 0 })),
  wrongDevice('no-irqs', 'The device has no interrupt types.', INFO, shown({ numIrqs: 0 })),
  wrongDevice('many-regions', 'The device has 2^32-1 regions.', INFO, shown({ numRegions: 0xffff_ffff })),
  wrongDevice('many-irqs', 'The device has 2^32-1 interrupt types.', INFO, shown({ numIrqs: 0xffff_ffff })),
  wrongDevice('many-vectors', 'MSI-X has 2^32-1 interrupts.', IRQ, {
    device: ({ irqs }) => {
      irqs[VFIO_PCI_MSIX_IRQ_INDEX].count = 0xffff_ffff;
    },
  }),
  wrongDevice(
    'absent',
    'Config space reads as that of an empty slot.',
    READ,
    config((bytes) => bytes.fill(0xff)),
  ),
  wrongDevice(
    'capability-loop',
    'The capabilities of config space point to each other.',
    READ,
    config((bytes) => bytes.writeUInt8(0x40, 0x41)),
  ),
  wrongDevice(
    'capability-in-the-header',
    'The first capability lies in the header of config space.',
    READ,
    config((bytes) => bytes.writeUInt8(4, 0x34)),
  ),
  wrongDevice(
    'table-beyond',
    'The table of MSI-X lies behind its BAR.',
    READ,
    config((bytes) => bytes.writeUInt32LE(0x7fff_0002, 0x44)),
  ),
  wrongDevice(
    'table-nowhere',
    'The table of MSI-X lies in BAR 7.',
    READ,
    config((bytes) => bytes.writeUInt32LE(7, 0x44)),
  ),
  wrongDevice(
    'table-full',
    'The table of MSI-X has 2,048 entries in 4 KiB.',
    READ,
    config((bytes) => bytes.writeUInt16LE(2047, 0x42)),
  ),
  wrongDevice(
    'bridge',
    'The header of config space is that of a bridge.',
    READ,
    config((bytes) => bytes.writeUInt8(1, 0xe)),
  ),
];

export const SHOWN_DEVIATIONS: readonly ClientDeviation[] = [LIMIT, REGIONS, DEVICE].flat();
