/** DEVICE_GET_REGION_INFO: sizes, flags, capabilities and descriptors. */
import { PAGE_SIZE } from '../../abi/mman.ts';
import {
  VFIO_PCI_ROM_REGION_INDEX,
  VFIO_REGION_INFO_CAP_MSIX_MAPPABLE,
  VFIO_REGION_INFO_CAP_SPARSE_MMAP,
  VFIO_REGION_INFO_CAP_TYPE,
  VFIO_REGION_INFO_FLAG_CAPS,
  VFIO_REGION_INFO_FLAG_MMAP,
  VFIO_REGION_INFO_FLAG_READ,
  VFIO_REGION_INFO_FLAG_WRITE,
  vfio_region_info,
  vfio_region_info_cap_sparse_mmap,
  vfio_region_sparse_mmap_area,
} from '../../abi/vfio.ts';
import { VFIO_USER_DEVICE_GET_REGION_INFO } from '../../abi/vfio-user.ts';
import { CONFIG, type RegionFacts } from '../facts.ts';
import { type Area, areasOf, tryMapping } from '../regions.ts';
import * as request from '../requests.ts';
import { refusalsOf, rulesOf } from '../rule.ts';
import type { Trial } from '../trial.ts';
import { demand, needs, unclear } from '../verdict.ts';

const rule = rulesOf('region', 'VFIO_USER_DEVICE_GET_REGION_INFO');
const INFO = VFIO_USER_DEVICE_GET_REGION_INFO;
const SIZE = vfio_region_info.sizeof;
const KNOWN_FLAGS =
  VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE | VFIO_REGION_INFO_FLAG_MMAP | VFIO_REGION_INFO_FLAG_CAPS;

/** Checks what every region says of itself. `test` returns the fault, or null. */
function each(test: (region: RegionFacts, reply: Buffer) => string | null, which = (_: RegionFacts) => true) {
  return (t: Trial) => {
    const regions = t.facts.regions.filter((region) => region.reply !== null && which(region));
    needs(regions.length > 0, 'the device has no such region');
    const peer = t.ready();
    for (const { index } of regions) peer.call(INFO, request.regionInfo(index));
    for (const region of regions) {
      const fault = test(region, region.reply!);
      demand(fault === null, `region ${region.index}: ${fault}`);
    }
  };
}

const mappable = ({ flags, size }: RegionFacts) => size > 0 && (flags & VFIO_REGION_INFO_FLAG_MMAP) !== 0;
const hasCapabilities = ({ flags }: RegionFacts) => (flags & VFIO_REGION_INFO_FLAG_CAPS) !== 0;
const isSparse = ({ capabilities }: RegionFacts) =>
  capabilities.some(({ id }) => id === VFIO_REGION_INFO_CAP_SPARSE_MMAP);
const isBar = ({ index, size }: RegionFacts) => index < 6 && size > 0;

function sparse(test: (areas: readonly Area[], region: RegionFacts) => string | null) {
  return each((region) => test(areasOf(region), region), isSparse);
}

const refuses = refusalsOf(INFO);

export const REGION_RULES = [
  rule('every-index', 'Each index below num_regions is answered.', (t) => {
    const peer = t.ready();
    for (const { index } of t.facts.regions) peer.ok(INFO, request.regionInfo(index));
  }),
  rule(
    'index-is-echoed',
    'The reply carries the index of the request.',
    each(({ index }, reply) => {
      const said = reply.readUInt32LE(8);
      return said === index ? null : `the reply says ${said}`;
    }),
  ),
  rule(
    'argsz-of-reply',
    'argsz of the reply counts the struct and its capabilities.',
    each(({ argsz }, reply) => (argsz === reply.length ? null : `argsz ${argsz}, and ${reply.length} bytes came`)),
  ),
  rule(
    'argsz-holds-the-struct',
    'argsz of the reply is 32 at least.',
    each(({ argsz }) => (argsz >= SIZE ? null : `argsz ${argsz}`)),
  ),
  rule(
    'known-flags',
    'Only the flags READ, WRITE, MMAP and CAPS are defined.',
    each(({ flags }) => ((flags & ~KNOWN_FLAGS) === 0 ? null : `flags 0x${flags.toString(16)}`)),
  ),
  rule(
    'absent-regions',
    'A region that the device lacks has size 0, and cannot be read, written or mapped.',
    each(
      ({ flags, fds }) => (flags === 0 && fds === 0 ? null : `flags ${flags} and ${fds} descriptors`),
      ({ size }) => size === 0,
    ),
    'linux/vfio.h, vfio_region_info',
  ),
  rule(
    'config-is-there',
    'Config space is region 7, and can be read and written.',
    each(
      ({ flags }) => ((flags & 3) === 3 ? null : `flags 0x${flags.toString(16)}`),
      ({ index }) => index === CONFIG,
    ),
    'linux/vfio.h, VFIO_PCI_CONFIG_REGION_INDEX',
  ),
  rule(
    'config-size',
    'Config space has 256 or 4096 bytes.',
    each(
      ({ size }) => (size === 256 || size === 4096 ? null : `size ${size}`),
      ({ index }) => index === CONFIG,
    ),
    'PCI Local Bus, 6.1; PCI Express, 7.2',
  ),
  rule(
    'config-is-not-mapped',
    'Config space cannot be mapped: its registers have side effects.',
    each(
      (region) => (mappable(region) ? 'it has the flag MMAP' : null),
      ({ index }) => index === CONFIG,
    ),
    'linux/vfio.h, VFIO_PCI_CONFIG_REGION_INDEX',
  ),
  rule(
    'rom-is-read-only',
    'The ROM cannot be written.',
    each(
      ({ flags }) => ((flags & VFIO_REGION_INFO_FLAG_WRITE) === 0 ? null : 'it has the flag WRITE'),
      ({ index, size }) => index === VFIO_PCI_ROM_REGION_INDEX && size > 0,
    ),
    'linux/vfio.h, VFIO_PCI_ROM_REGION_INDEX',
  ),
  rule(
    'bar-sizes',
    'The size of a BAR is a power of two.',
    each(({ size }) => (Number.isInteger(Math.log2(size)) ? null : `size ${size}`), isBar),
    'PCI Local Bus, 6.2.5.1',
  ),
  rule(
    'bar-smallest',
    'A BAR has four bytes at least.',
    each(({ size }) => (size >= 4 ? null : `size ${size}`), isBar),
    'PCI Local Bus, 6.2.5.1',
  ),
  rule(
    'bars-can-be-read',
    'A region that is there can be read or written.',
    each(
      ({ flags }) => ((flags & 3) !== 0 ? null : 'neither READ nor WRITE'),
      ({ size }) => size > 0,
    ),
  ),
  rule(
    'mappable-has-a-descriptor',
    'A region with the flag MMAP comes with one descriptor.',
    each(({ fds }) => (fds === 1 ? null : `${fds} descriptors came`), mappable),
  ),
  rule(
    'unmappable-has-none',
    'A region without the flag MMAP comes without a descriptor.',
    each(
      ({ fds }) => (fds === 0 ? null : `${fds} descriptors came`),
      (region) => !mappable(region),
    ),
  ),
  rule(
    'offset-is-a-page',
    'The offset for mmap is a multiple of the page size.',
    each(({ offset }) => (offset % PAGE_SIZE === 0 ? null : `offset 0x${offset.toString(16)}`), mappable),
    'mmap(2)',
  ),
  rule('can-be-mapped', 'Each part of a region that may be mapped can be mapped.', (t) => {
    const regions = t.facts.regions.filter(mappable);
    needs(regions.length > 0, 'the device has no region that may be mapped');
    const peer = t.ready();
    for (const region of regions) tryMapping(peer, region);
  }),
  rule('file-is-large-enough', 'The descriptor reaches to the end of what may be mapped.', (t) => {
    const regions = t.facts.regions.filter(mappable);
    needs(regions.length > 0, 'the device has no region that may be mapped');
    const peer = t.ready();
    for (const region of regions) {
      // A touch of a page beyond the end of the file would end this process; the file's size says it without.
      const { end, fileBytes } = tryMapping(peer, region);
      demand(
        fileBytes === null || end <= fileBytes,
        `region ${region.index}: ${fileBytes} bytes, and ${end} may be mapped`,
      );
    }
  }),
  rule(
    'capabilities-have-the-flag',
    'A reply that is longer than the struct has the flag CAPS.',
    each((region, reply) =>
      reply.length <= SIZE || hasCapabilities(region) ? null : `${reply.length} bytes without CAPS`,
    ),
  ),
  rule(
    'cap-offset',
    'cap_offset leads to the first capability behind the struct.',
    each(
      ({ capOffset, argsz }) => (capOffset >= SIZE && capOffset < argsz ? null : `cap_offset ${capOffset} of ${argsz}`),
      hasCapabilities,
    ),
  ),
  rule(
    'cap-offset-without-caps',
    'Without the flag CAPS, cap_offset means nothing and is 0.',
    each(
      ({ capOffset }) => (capOffset === 0 ? null : `cap_offset ${capOffset}`),
      (region) => !hasCapabilities(region),
    ),
    'linux/vfio.h, vfio_region_info',
  ),
  rule(
    'chain-ends',
    'The chain of capabilities lies in the reply, and ends.',
    each(({ chainFault }) => chainFault, hasCapabilities),
  ),
  rule(
    'chain-is-known',
    'Capabilities are those of linux/vfio.h.',
    each(({ capabilities }) => {
      const known = [VFIO_REGION_INFO_CAP_SPARSE_MMAP, VFIO_REGION_INFO_CAP_TYPE, VFIO_REGION_INFO_CAP_MSIX_MAPPABLE];
      const other = capabilities.find(({ id }) => !known.includes(id));
      return other === undefined ? null : `capability ${other.id}`;
    }, hasCapabilities),
    'linux/vfio.h, VFIO_REGION_INFO_CAP',
  ),
  rule(
    'sparse-version',
    'The capability of sparse areas has version 1.',
    each(({ capabilities }) => {
      const cap = capabilities.find(({ id }) => id === VFIO_REGION_INFO_CAP_SPARSE_MMAP)!;
      return cap.version === 1 ? null : `version ${cap.version}`;
    }, isSparse),
  ),
  rule(
    'sparse-fits',
    'The areas that nr_areas counts lie in the reply.',
    each(({ capabilities }, reply) => {
      const { at } = capabilities.find(({ id }) => id === VFIO_REGION_INFO_CAP_SPARSE_MMAP)!;
      const count = reply.readUInt32LE(at + vfio_region_info_cap_sparse_mmap.fields.nr_areas.offset);
      const end = at + vfio_region_info_cap_sparse_mmap.sizeof + count * vfio_region_sparse_mmap_area.sizeof;
      return end <= reply.length ? null : `${count} areas end at ${end} of ${reply.length} bytes`;
    }, isSparse),
  ),
  rule(
    'sparse-inside',
    'Each sparse area lies in its region.',
    sparse((areas, { size }) => {
      const out = areas.find((area) => area.offset + area.size > size);
      return out === undefined
        ? null
        : `0x${out.offset.toString(16)} + 0x${out.size.toString(16)} of 0x${size.toString(16)}`;
    }),
  ),
  rule(
    'sparse-pages',
    'Sparse areas begin and end at pages.',
    sparse((areas) => {
      const odd = areas.find(({ offset, size }) => offset % PAGE_SIZE !== 0 || size % PAGE_SIZE !== 0);
      return odd === undefined ? null : `0x${odd.offset.toString(16)} + 0x${odd.size.toString(16)}`;
    }),
    'mmap(2)',
  ),
  rule(
    'sparse-apart',
    'Sparse areas do not overlap.',
    sparse((areas) => {
      const sorted = areas.toSorted((a, b) => a.offset - b.offset);
      const at = sorted.findIndex((area, i) => i > 0 && area.offset < sorted[i - 1].offset + sorted[i - 1].size);
      return at < 0 ? null : `two areas at 0x${sorted[at].offset.toString(16)}`;
    }),
  ),
  rule(
    'sparse-needs-mmap',
    'Only a region with the flag MMAP has sparse areas.',
    each((region) => (mappable(region) ? null : 'it has areas without the flag MMAP'), isSparse),
  ),
  rule('short-room', 'A reply without room for the capabilities names the size that it needs.', (t) => {
    const region = t.facts.regions.find(hasCapabilities);
    needs(region !== undefined, 'no region has capabilities');
    const { view, payload } = t.ready().ok(INFO, request.regionInfo(region.index, SIZE));
    demand(view.getUint32(0, true) === region.argsz, `argsz ${view.getUint32(0, true)}, not ${region.argsz}`);
    demand(payload.length <= SIZE, `${payload.length} bytes came for argsz ${SIZE}`);
  }),
  rule('room-is-kept', 'No reply payload is longer than the argsz of its request.', (t) => {
    const peer = t.ready();
    for (const { index } of t.facts.regions) {
      const { payload } = peer.call(INFO, request.regionInfo(index, SIZE));
      demand(payload.length <= SIZE, `region ${index}: ${payload.length} bytes for argsz ${SIZE}`);
    }
  }),
  rule(
    'argsz-0',
    'A client without room for the struct is refused: argsz 0.',
    refuses('argsz 0', request.regionInfo(CONFIG, 0)),
  ),
  rule(
    'argsz-31',
    'A client without room for the struct is refused: argsz 31.',
    refuses('argsz 31', request.regionInfo(CONFIG, 31)),
  ),
  rule('argsz-largest', 'A client that offers 4 GiB of room is answered, or refused.', (t) => {
    const peer = t.ready();
    peer.call(INFO, request.regionInfo(CONFIG, 0xffff_ffff));
    t.stillServes(peer);
  }),
  rule(
    'index-behind-the-last',
    'An index from num_regions on is refused.',
    refuses('an unknown region', (t) => request.regionInfo(t.facts.numRegions)),
  ),
  rule(
    'index-largest',
    'The index 0xffffffff is refused.',
    refuses('region 0xffffffff', request.regionInfo(0xffff_ffff)),
  ),
  rule('asked-twice', 'The same question has the same answer.', (t) => {
    const peer = t.ready();
    for (const { index } of t.facts.regions) {
      const [first, second] = [0, 1].map(() => peer.call(INFO, request.regionInfo(index)));
      demand(first.payload.equals(second.payload), `region ${index} changes`);
      demand(
        first.fds.length === second.fds.length,
        `region ${index}: ${first.fds.length}, then ${second.fds.length} descriptors`,
      );
    }
  }),
  rule(
    'other-fields',
    'The other fields of a request must be zero; the text does not say what a server does otherwise.',
    (t) => {
      const payload = vfio_region_info.encode({
        argsz: 4096,
        index: CONFIG,
        flags: 0xff,
        cap_offset: 5,
        size: 6,
        offset: 7,
      });
      unclear(t.ready().call(INFO, payload).failed ? 'the request is refused' : 'the fields are ignored');
    },
  ),
];
