/** DEVICE_GET_REGION_IO_FDS. */
import {
  VFIO_USER_DEVICE_GET_REGION_IO_FDS,
  VFIO_USER_IO_FD_TYPE_IOEVENTFD,
  VFIO_USER_IO_FD_TYPE_IOREGIONFD,
  vfio_user_region_io_fds,
  vfio_user_sub_region_ioeventfd,
} from '../../abi/vfio-user.ts';
import type { Incoming, RawPeer } from '../peer.ts';
import * as request from '../requests.ts';
import { refusalsOf, rulesOf } from '../rule.ts';
import type { Trial } from '../trial.ts';
import { demand, needs, notApplicable, unclear } from '../verdict.ts';

const rule = rulesOf('iofds', 'VFIO_USER_DEVICE_GET_REGION_IO_FDS');
const IO_FDS = VFIO_USER_DEVICE_GET_REGION_IO_FDS;
const HEAD = vfio_user_region_io_fds.sizeof;
const ENTRY = vfio_user_sub_region_ioeventfd;

/** The regions that are there, on a server that knows the command. */
function regions(t: Trial): { index: number; size: number }[] {
  needs(t.facts.ioFds, 'the server does not know the command');
  return t.facts.regions.filter(({ size }) => size > 0);
}

/** Tries something on each region's reply. */
function each(test: (reply: Incoming, region: { index: number; size: number }) => string | null) {
  return (t: Trial) => {
    const there = regions(t);
    const peer = t.ready();
    for (const region of there) {
      const reply = peer.call(IO_FDS, request.ioFds(region.index));
      if (reply.failed) continue;
      demand(reply.payload.length >= HEAD, `region ${region.index}: ${reply.payload.length} bytes`);
      const fault = test(reply, region);
      demand(fault === null, `region ${region.index}: ${fault}`);
    }
  };
}

function entriesOf({ payload, view }: Incoming): { offset: bigint; size: bigint; fd_index: number; type: number }[] {
  const entries = [];
  for (let at = HEAD; at + ENTRY.sizeof <= payload.length; at += ENTRY.sizeof) {
    entries.push({
      offset: ENTRY.fields.offset.getBig(view, at),
      size: ENTRY.fields.size.getBig(view, at),
      fd_index: ENTRY.fields.fd_index.get(view, at),
      type: ENTRY.fields.type.get(view, at),
    });
  }
  return entries;
}

const refuses = refusalsOf(IO_FDS, (t) => {
  regions(t);
  return t.ready();
});

/** The first region with descriptors, as a client that takes many. */
function withDescriptors(t: Trial, peer: RawPeer): { index: number; count: number } {
  for (const { index } of regions(t)) {
    const reply = peer.call(IO_FDS, request.ioFds(index));
    if (!reply.failed && reply.fds.length > 0) return { index, count: reply.fds.length };
  }
  return notApplicable('no region has such descriptors');
}

export const IO_FDS_RULES = [
  rule('known', 'The command is answered: with descriptors, with none, or with an error.', (t) => {
    const peer = t.ready();
    for (const { index, size } of t.facts.regions) if (size > 0) peer.call(IO_FDS, request.ioFds(index));
  }),
  rule(
    'index-is-echoed',
    'The reply carries the index of the request.',
    each(({ view }, { index }) =>
      view.getUint32(8, true) === index ? null : `the reply says ${view.getUint32(8, true)}`,
    ),
  ),
  rule(
    'flags-are-zero',
    'The flags of a reply are zero.',
    each(({ view }) => (view.getUint32(4, true) === 0 ? null : `the flags are ${view.getUint32(4, true)}`)),
  ),
  rule(
    'argsz-of-reply',
    'argsz of the reply counts the struct and the sub-regions.',
    each(({ view, payload }) =>
      view.getUint32(0, true) === payload.length
        ? null
        : `argsz ${view.getUint32(0, true)}, and ${payload.length} bytes`,
    ),
  ),
  rule(
    'count',
    'count is the number of sub-regions that come.',
    each((reply) => {
      const count = reply.view.getUint32(12, true);
      return count === entriesOf(reply).length ? null : `count ${count}, and ${entriesOf(reply).length} came`;
    }),
  ),
  rule(
    'fd-index',
    'Each sub-region names a descriptor that came along.',
    each((reply) => {
      const bad = entriesOf(reply).find(({ fd_index }) => fd_index >= reply.fds.length);
      return bad === undefined ? null : `fd_index ${bad.fd_index} of ${reply.fds.length}`;
    }),
  ),
  rule(
    'type',
    'A sub-region is an ioeventfd or an ioregionfd.',
    each((reply) => {
      const known = [VFIO_USER_IO_FD_TYPE_IOEVENTFD, VFIO_USER_IO_FD_TYPE_IOREGIONFD];
      const bad = entriesOf(reply).find(({ type }) => !known.includes(type));
      return bad === undefined ? null : `type ${bad.type}`;
    }),
  ),
  rule(
    'inside',
    'A sub-region lies in its region.',
    each((reply, { size }) => {
      const bad = entriesOf(reply).find((entry) => entry.offset + entry.size > BigInt(size));
      return bad === undefined ? null : `0x${bad.offset.toString(16)} + ${bad.size}`;
    }),
  ),
  rule(
    'max-msg-fds',
    'A client that takes one descriptor in a message gets no more.',
    (t) => {
      const { index } = withDescriptors(t, t.ready());
      const peer = t.successorOf({ max_msg_fds: 1 });
      const { fds } = peer.call(IO_FDS, request.ioFds(index));
      demand(fds.length <= 1, `${fds.length} descriptors came`);
    },
    'VFIO_USER_VERSION, max_msg_fds',
  ),
  rule('short-room', 'A reply without room for the sub-regions has none, and names the size that it needs.', (t) => {
    const peer = t.ready();
    const { index } = withDescriptors(t, peer);
    const { view, payload } = peer.ok(IO_FDS, request.ioFds(index, HEAD));
    demand(payload.length <= HEAD, `${payload.length} bytes for argsz ${HEAD}`);
    demand(view.getUint32(0, true) > HEAD, `argsz of the reply is ${view.getUint32(0, true)}`);
  }),
  rule(
    'argsz-0',
    'A client without room for the struct is refused: argsz 0.',
    refuses('argsz 0', (t) => request.ioFds(regions(t)[0].index, 0)),
  ),
  rule('argsz-largest', 'A client that offers 4 GiB of room is answered, or refused.', (t) => {
    const [{ index }] = regions(t);
    const peer = t.ready();
    peer.call(IO_FDS, request.ioFds(index, 0xffff_ffff));
    t.stillServes(peer);
  }),
  rule(
    'index-behind-the-last',
    'An index from num_regions on is refused.',
    refuses('an unknown region', (t) => request.ioFds(t.facts.numRegions)),
  ),
  rule(
    'index-largest',
    'The index 0xffffffff is refused.',
    refuses('region 0xffffffff', () => request.ioFds(0xffff_ffff)),
  ),
  rule(
    'short',
    'A request without its struct is refused.',
    refuses('a request of 8 bytes', () => request.ioFds(0).subarray(0, 8)),
  ),
  rule('flags', 'A client sets flags to zero; the text does not say what a server does otherwise.', (t) => {
    const [{ index }] = regions(t);
    unclear(
      t.ready().call(IO_FDS, request.ioFds(index, 4096, 1)).failed ? 'the request is refused' : 'flags are ignored',
    );
  }),
  rule('no-leak', 'Asking again does not make the server hold more descriptors each time.', (t) => {
    const peer = t.ready();
    const { index } = withDescriptors(t, peer);
    for (let i = 0; i < 2; i++) for (const fd of peer.call(IO_FDS, request.ioFds(index)).fds) fd.close();
    const before = t.serverFds(peer);
    for (let i = 0; i < 8; i++) for (const fd of peer.call(IO_FDS, request.ioFds(index)).fds) fd.close();
    t.demandFds(peer, before, '8 requests');
  }),
];
