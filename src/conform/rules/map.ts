/** DMA_MAP. */
import { ERRNO, errnoName } from '../../abi/errno.ts';
import { VFIO_USER_DMA_MAP, VFIO_USER_DMA_UNMAP } from '../../abi/vfio-user.ts';
import * as request from '../requests.ts';
import { refusalsOf, rulesOf } from '../rule.ts';
import type { Trial } from '../trial.ts';
import { demand, unclear } from '../verdict.ts';

const rule = rulesOf('map', 'VFIO_USER_DMA_MAP');
const MAP = VFIO_USER_DMA_MAP;
const UNMAP = VFIO_USER_DMA_UNMAP;
/** Where the rules map: four pages. */
const AT = 0x10_0000;
const PAGE = 4096;
const FOUR = 4 * PAGE;

function maps(fields: Partial<request.MapFields>, withFile: boolean) {
  return (t: Trial) => {
    const peer = t.ready();
    const fds = withFile ? [t.memfd(FOUR).fd] : [];
    const { payload } = peer.ok(MAP, request.dmaMap({ addr: AT, size: FOUR, ...fields }), { fds });
    demand(payload.length === 0, `the reply has ${payload.length} bytes`);
    t.stillServes(peer);
  };
}

function refuses(what: string, fields: Partial<request.MapFields>, withFile = false) {
  return (t: Trial) => {
    const peer = t.ready();
    const fds = withFile ? [t.memfd(FOUR).fd] : [];
    peer.refused(what, MAP, request.dmaMap({ addr: AT, size: FOUR, ...fields }), { fds });
    t.stillServes(peer);
  };
}

/** A second mapping that touches the first one is EEXIST. */
function overlaps(fields: request.MapFields, withFile = false) {
  return (t: Trial) => {
    const peer = t.ready();
    const fds = () => (withFile ? [t.memfd(FOUR * 2).fd] : []);
    peer.ok(MAP, request.dmaMap({ addr: AT, size: FOUR }), { fds: fds() });
    const { errno } = peer.refused('an overlap', MAP, request.dmaMap(fields), { fds: fds() });
    demand(errno === ERRNO.EEXIST, `the errno is ${errnoName(errno)}, not EEXIST`);
    t.stillServes(peer);
  };
}

/** A descriptor that is not memory: the server answers somehow, and goes on. */
function survivesFile(open: (t: Trial) => number) {
  return (t: Trial) => {
    const peer = t.ready();
    peer.call(MAP, request.dmaMap({ addr: AT, size: FOUR }), { fds: [open(t)] });
    t.stillServes(peer);
  };
}

export const MAP_RULES = [
  rule('with-file', 'A region that comes with a descriptor is mapped; the reply has no payload.', maps({}, true)),
  rule('without-file', 'A region without a descriptor is taken; the server reaches it by messages.', maps({}, false)),
  rule('read-only', 'A region may be for reading alone.', maps({ flags: 1 }, true)),
  rule('write-only', 'A region may be for writing alone.', maps({ flags: 2 }, false)),
  rule('file-offset', 'A region may begin inside its file.', maps({ size: 2 * PAGE, offset: 2 * PAGE }, true)),
  rule('address-0', 'A region may begin at address 0.', maps({ addr: 0 }, false)),
  rule('above-4-gib', 'A region may lie above 4 GiB.', maps({ addr: 0x10_0000_0000 }, true)),
  rule('large', 'A region may be as large as 64 GiB.', maps({ addr: 0x100_0000_0000, size: 64 * 2 ** 30 }, false)),
  rule('overlap-same', 'A region over the same one is EEXIST.', overlaps({ addr: AT, size: FOUR })),
  rule(
    'overlap-same-with-file',
    'A region over the same one is EEXIST, with descriptors too.',
    overlaps({ addr: AT, size: FOUR }, true),
  ),
  rule('overlap-inside', 'A region inside another one is EEXIST.', overlaps({ addr: AT + PAGE, size: PAGE })),
  rule(
    'overlap-around',
    'A region around another one is EEXIST.',
    overlaps({ addr: AT - PAGE, size: FOUR + 2 * PAGE }),
  ),
  rule(
    'overlap-start',
    'A region over the start of another one is EEXIST.',
    overlaps({ addr: AT - PAGE, size: 2 * PAGE }),
  ),
  rule(
    'overlap-end',
    'A region over the end of another one is EEXIST.',
    overlaps({ addr: AT + FOUR - PAGE, size: 2 * PAGE }),
  ),
  rule('beside', 'Regions may touch each other.', (t) => {
    const peer = t.ready();
    for (const addr of [AT, AT + FOUR, AT - FOUR]) peer.ok(MAP, request.dmaMap({ addr, size: FOUR }));
  }),
  rule('same-file', 'Regions may show the same file.', (t) => {
    const peer = t.ready();
    const fds = [t.memfd(FOUR).fd];
    for (const addr of [AT, 2 * AT]) peer.ok(MAP, request.dmaMap({ addr, size: FOUR }), { fds });
  }),
  rule('many', 'A client may have many regions: 64.', (t) => {
    const peer = t.ready();
    for (let i = 0; i < 64; i++) peer.ok(MAP, request.dmaMap({ addr: AT + i * FOUR, size: FOUR }));
  }),
  rule('again-after-unmap', 'A region that was unmapped can be mapped again.', (t) => {
    const peer = t.ready();
    for (let i = 0; i < 3; i++) {
      peer.ok(MAP, request.dmaMap({ addr: AT, size: FOUR }), { fds: [t.memfd(FOUR).fd] });
      peer.ok(UNMAP, request.dmaUnmap({ addr: AT, size: FOUR }));
    }
  }),
  rule('size-0', 'A region without bytes is refused.', refuses('size 0', { size: 0 })),
  rule(
    'wraps',
    'A region whose end wraps around 2^64 is refused.',
    refuses('a region that wraps', { addr: (1n << 64n) - 4096n, size: 8192n }),
  ),
  rule(
    'size-largest',
    'A region of 2^64 - 1 bytes is refused.',
    refuses('a region of 2^64 - 1 bytes', { size: (1n << 64n) - 1n }),
  ),
  rule(
    'odd-address',
    'Addresses are multiples of a page that both sides have.',
    refuses('an address inside a page', { addr: AT + 1 }),
    'VFIO_USER_VERSION, pgsizes',
  ),
  rule(
    'odd-size',
    'Sizes are multiples of a page that both sides have.',
    refuses('a size of a page and a byte', { size: PAGE + 1 }),
    'VFIO_USER_VERSION, pgsizes',
  ),
  rule(
    'odd-file-offset',
    'A file offset that mmap does not take is refused.',
    refuses('a file offset of 1', { offset: 1, size: PAGE }, true),
    'mmap(2)',
  ),
  rule('argsz-0', 'An argsz that does not hold the struct is refused: 0.', refuses('argsz 0', { argsz: 0 })),
  rule('argsz-31', 'An argsz that does not hold the struct is refused: 31.', refuses('argsz 31', { argsz: 31 })),
  rule(
    'short',
    'A request without its struct is refused.',
    refusalsOf(MAP)('a request of 8 bytes', request.dmaMap({ addr: AT, size: FOUR }).subarray(0, 8)),
  ),
  rule('unknown-flags', 'The text does not say what flags above the known ones mean.', (t) => {
    const reply = t.ready().call(MAP, request.dmaMap({ addr: AT, size: FOUR, flags: 0x8000_0003 }));
    unclear(reply.failed ? 'the request is refused' : 'they are ignored');
  }),
  rule('no-access', 'The text does not say what a region is that can neither be read nor written.', (t) => {
    const reply = t.ready().call(MAP, request.dmaMap({ addr: AT, size: FOUR, flags: 0 }));
    unclear(reply.failed ? 'it is refused' : 'it is mapped');
  }),
  rule(
    'file-too-small',
    'A region that is larger than its file does not end the server.',
    survivesFile((t) => t.memfd(PAGE).fd),
  ),
  rule(
    'empty-file',
    'A region over an empty file does not end the server.',
    survivesFile((t) => t.memfd(0).fd),
  ),
  rule(
    'eventfd-as-memory',
    'A descriptor that cannot be mapped does not end the server.',
    survivesFile((t) => t.eventfd().fd),
  ),
  rule('two-files', 'The text does not say what a second descriptor means.', (t) => {
    const peer = t.ready();
    const fds = [t.memfd(FOUR).fd, t.memfd(FOUR).fd];
    const reply = peer.call(MAP, request.dmaMap({ addr: AT, size: FOUR }), { fds });
    t.stillServes(peer);
    unclear(reply.failed ? 'the request is refused' : 'the second one is ignored');
  }),
  rule('refused-file-is-closed', 'The server closes the descriptor of a region that it refuses.', (t) => {
    const peer = t.ready();
    peer.ok(MAP, request.dmaMap({ addr: AT, size: FOUR }));
    const before = t.serverFds(peer);
    for (let i = 0; i < 8; i++) {
      peer.refused('an overlap', MAP, request.dmaMap({ addr: AT, size: FOUR }), { fds: [t.memfd(FOUR).fd] });
    }
    t.demandFds(peer, before, '8 refused regions');
  }),
  rule('refused-file-is-not-mapped', 'A region that is refused is not kept mapped.', (t) => {
    const peer = t.ready();
    peer.ok(MAP, request.dmaMap({ addr: AT, size: FOUR }));
    const memory = t.memfd(FOUR);
    peer.refused('an overlap', MAP, request.dmaMap({ addr: AT, size: FOUR }), { fds: [memory.fd] });
    demand(t.isUnmapped(memory), 'the server still maps the memory for writing');
  }),
];
