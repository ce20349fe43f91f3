/** DMA_UNMAP. The rules belong to the group of DMA_MAP. */
import { VFIO_USER_DMA_MAP, VFIO_USER_DMA_UNMAP, vfio_user_dma_unmap } from '../../abi/vfio-user.ts';
import type { RawPeer } from '../peer.ts';
import * as request from '../requests.ts';
import { refusalsOf, rulesOf } from '../rule.ts';
import type { Trial } from '../trial.ts';
import { demand, unclear } from '../verdict.ts';

const rule = rulesOf('map', 'VFIO_USER_DMA_UNMAP');
const MAP = VFIO_USER_DMA_MAP;
const UNMAP = VFIO_USER_DMA_UNMAP;
const AT = 0x20_0000;
const PAGE = 4096;
const FOUR = 4 * PAGE;

function mapped(t: Trial): RawPeer {
  const peer = t.ready();
  peer.ok(MAP, request.dmaMap({ addr: AT, size: FOUR }));
  return peer;
}

/** A request that is refused, and leaves the region where it is. */
function refuses(what: string, fields: Partial<request.MapFields>) {
  return (t: Trial) => {
    const peer = mapped(t);
    peer.refused(what, UNMAP, request.dmaUnmap({ addr: AT, size: FOUR, ...fields }));
    peer.refused('the region, which is still there', MAP, request.dmaMap({ addr: AT, size: FOUR }));
  };
}

export const UNMAP_RULES = [
  rule('unmap', 'A region is unmapped by its address and size.', (t) => {
    mapped(t).ok(UNMAP, request.dmaUnmap({ addr: AT, size: FOUR }));
  }),
  rule('unmap-reply', 'The reply repeats the entry of the request.', (t) => {
    const { payload } = mapped(t).ok(UNMAP, request.dmaUnmap({ addr: AT, size: FOUR }));
    demand(payload.length >= vfio_user_dma_unmap.sizeof, `the reply has ${payload.length} bytes`);
    const said = request.dmaUnmap({ addr: AT, size: FOUR });
    demand(payload.subarray(8, 24).equals(said.subarray(8)), `the reply is ${payload.toString('hex')}`);
  }),
  rule('unmap-frees-the-memory', 'When the reply comes, the server holds nothing of the memory.', (t) => {
    const peer = t.ready();
    const memory = t.memfd(FOUR);
    peer.ok(MAP, request.dmaMap({ addr: AT, size: FOUR }), { fds: [memory.fd] });
    peer.ok(UNMAP, request.dmaUnmap({ addr: AT, size: FOUR }));
    demand(t.isUnmapped(memory), 'the server still maps the memory for writing');
  }),
  rule('unmap-closes-the-file', 'When the reply comes, the server holds no descriptor of the memory.', (t) => {
    const peer = t.ready();
    t.stillServes(peer);
    const before = t.serverFds(peer);
    for (let i = 0; i < 4; i++) {
      peer.ok(MAP, request.dmaMap({ addr: AT, size: FOUR }), { fds: [t.memfd(FOUR).fd] });
      peer.ok(UNMAP, request.dmaUnmap({ addr: AT, size: FOUR }));
    }
    t.demandFds(peer, before, '4 regions that were unmapped');
  }),
  rule(
    'unmap-nothing',
    'A range that was never mapped is refused.',
    refuses('a range that is not mapped', { addr: AT + 16 * FOUR }),
  ),
  rule(
    'unmap-a-part',
    'A part of a region does not match it, and is refused.',
    refuses('half of a region', { size: FOUR / 2 }),
  ),
  rule(
    'unmap-the-middle',
    'The middle of a region does not match it, and is refused.',
    refuses('a page of a region', { addr: AT + PAGE, size: PAGE }),
  ),
  rule('unmap-twice', 'A region that was unmapped does not match any more.', (t) => {
    const peer = mapped(t);
    peer.ok(UNMAP, request.dmaUnmap({ addr: AT, size: FOUR }));
    peer.refused('the second time', UNMAP, request.dmaUnmap({ addr: AT, size: FOUR }));
  }),
  rule('unmap-argsz-0', 'A client without room for the reply is refused: argsz 0.', refuses('argsz 0', { argsz: 0 })),
  rule('unmap-argsz-8', 'A client without room for the reply is refused: argsz 8.', refuses('argsz 8', { argsz: 8 })),
  rule('unmap-size-0', 'A range without bytes matches nothing.', refuses('size 0', { size: 0 })),
  rule(
    'unmap-wraps',
    'A range that wraps around 2^64 matches nothing.',
    refuses('a range that wraps', { addr: (1n << 64n) - 4096n, size: 8192n }),
  ),
  rule(
    'unmap-short',
    'A request without its struct is refused.',
    refusalsOf(UNMAP, mapped)('a request of 8 bytes', request.dmaUnmap({ addr: AT, size: FOUR }).subarray(0, 8)),
  ),
  rule('unmap-around', 'A range around a region does not match; the text does not say what a server does.', (t) => {
    const peer = mapped(t);
    const reply = peer.call(UNMAP, request.dmaUnmap({ addr: AT - PAGE, size: FOUR + 2 * PAGE }));
    unclear(reply.failed ? 'it is refused' : 'the region is unmapped');
  }),
  rule('unmap-all', 'QEMU asks for all regions by flag 2, address and size 0; the text has no flags.', (t) => {
    const peer = mapped(t);
    const reply = peer.call(UNMAP, request.dmaUnmap({ addr: 0, size: 0, flags: 2 }));
    unclear(reply.failed ? 'it is refused' : 'all regions are unmapped');
  }),
  rule('unmap-unknown-flags', 'The flags are unused; the text does not say what a server does with some.', (t) => {
    const reply = mapped(t).call(UNMAP, request.dmaUnmap({ addr: AT, size: FOUR, flags: 0x100 }));
    unclear(reply.failed ? 'the request is refused' : 'they are ignored');
  }),
  rule('unmap-one-of-two', 'Other regions stay.', (t) => {
    const peer = mapped(t);
    peer.ok(MAP, request.dmaMap({ addr: AT + FOUR, size: FOUR }));
    peer.ok(UNMAP, request.dmaUnmap({ addr: AT, size: FOUR }));
    peer.refused('the other region, which is still there', MAP, request.dmaMap({ addr: AT + FOUR, size: FOUR }));
  }),
];
