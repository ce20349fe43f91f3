/** REGION_WRITE_MULTI. */
import { PCI_INTERRUPT_LINE } from '../../abi/pci_regs.ts';
import { VFIO_USER_MULTI_MAX, VFIO_USER_REGION_WRITE_MULTI } from '../../abi/vfio-user.ts';
import { CONFIG } from '../facts.ts';
import { NO_REPLY, type RawPeer } from '../peer.ts';
import { readConfig } from '../registers.ts';
import * as request from '../requests.ts';
import { refusalsOf, rulesOf } from '../rule.ts';
import type { Trial } from '../trial.ts';
import { demand, needs } from '../verdict.ts';

const rule = rulesOf('multi', 'VFIO_USER_REGION_WRITE_MULTI');
const MULTI = VFIO_USER_REGION_WRITE_MULTI;

const line = (data: number, count = 1) => ({ region: CONFIG, offset: PCI_INTERRUPT_LINE, count, data });

/** A connection that agreed on write_multiple. */
function agreed(t: Trial): RawPeer {
  needs(t.facts.limits.writeMultiple, 'the server does not offer write_multiple');
  return t.ready();
}

function readLine(peer: RawPeer): number {
  return readConfig(peer, PCI_INTERRUPT_LINE, 1);
}

function completes(t: Trial, writes: readonly request.OneWrite[], last: number): void {
  const peer = agreed(t);
  const { payload, view } = peer.ok(MULTI, request.writeMulti(writes));
  demand(payload.length === 8, `the reply has ${payload.length} bytes`);
  demand(
    view.getBigUint64(0, true) === BigInt(writes.length),
    `wr_cnt is ${view.getBigUint64(0, true)} of ${writes.length}`,
  );
  const now = readLine(peer);
  demand(now === last, `0x${last.toString(16)} reads as 0x${now.toString(16)}`);
}

const refuses = refusalsOf(MULTI, agreed);

export const MULTI_RULES = [
  rule('one', 'A single write is done, and wr_cnt is 1.', (t) => completes(t, [line(0x21)], 0x21)),
  rule('two', 'Two writes are done, and wr_cnt is 2.', (t) => completes(t, [line(0x22), line(0x23)], 0x23)),
  rule('many', "As many writes as QEMU's client sends at once are done.", (t) => {
    const writes = Array.from({ length: VFIO_USER_MULTI_MAX }, (_, i) => line(i));
    completes(t, writes, VFIO_USER_MULTI_MAX - 1);
  }),
  rule('in-order', 'Writes are done in their order: the last one of a place stays.', (t) => {
    completes(t, [line(0x31), line(0x32), line(0x33), line(0x34)], 0x34);
  }),
  rule('two-bytes', 'A write of two bytes takes the first two of its eight.', (t) => {
    completes(t, [{ ...line(0x44), count: 2 }], 0x44);
  }),
  rule('four-bytes', 'A write of four bytes takes the first four of its eight.', (t) => {
    const rest = t.facts.config.readUInt32LE(PCI_INTERRUPT_LINE) & 0xffffff00;
    completes(t, [{ ...line((rest | 0x45) >>> 0), count: 4 }], 0x45);
  }),
  rule('none', 'A message of no writes completes none.', (t) => {
    const { view, payload } = agreed(t).ok(MULTI, request.writeMulti([]));
    demand(payload.length === 8 && view.getBigUint64(0, true) === 0n, `the reply is ${payload.toString('hex')}`);
  }),
  rule('stops-at-a-failure', 'wr_cnt is the number of writes that completed: those before the one that fails.', (t) => {
    const peer = agreed(t);
    const bad = { region: 0xffff, offset: 0, count: 1, data: 0 };
    const reply = peer.call(MULTI, request.writeMulti([line(0x51), line(0x52), bad, line(0x53)]));
    if (reply.failed) return;
    const count = reply.view.getBigUint64(0, true);
    demand(count === 2n, `wr_cnt is ${count}, not 2`);
  }),
  rule('more-than-eight-bytes', 'A write has eight bytes at most.', (t) => {
    const peer = agreed(t);
    const reply = peer.call(MULTI, request.writeMulti([line(0, 9)]));
    demand(reply.failed || reply.view.getBigUint64(0, true) === 0n, 'a write of nine bytes completed');
    t.stillServes(peer);
  }),
  rule('count-of-4-gib', 'A write of 4 GiB is not done.', (t) => {
    const peer = agreed(t);
    const reply = peer.call(MULTI, request.writeMulti([line(0, 0xffff_ffff)]));
    demand(reply.failed || reply.view.getBigUint64(0, true) === 0n, 'a write of 4 GiB completed');
    t.stillServes(peer);
  }),
  rule(
    'more-than-came',
    'A wr_cnt beyond the writes that came is refused.',
    refuses('a wr_cnt of 3 with 1 write', request.writeMulti([line(1)], 3)),
  ),
  rule(
    'wraps',
    'A wr_cnt whose size wraps around 2^64 is refused.',
    refuses('a wr_cnt of 2^61', request.writeMulti([line(1)], 1n << 61n)),
  ),
  rule(
    'largest',
    'A wr_cnt of 2^64 - 1 is refused.',
    refuses('a wr_cnt of 2^64 - 1', request.writeMulti([line(1)], (1n << 64n) - 1n)),
  ),
  rule('short', 'A message without its count is refused.', refuses('a message of 4 bytes', Buffer.alloc(4))),
  rule(
    'half-a-write',
    'A message that ends in a write is refused.',
    refuses('a message with half a write', request.writeMulti([line(1)]).subarray(0, 20)),
  ),
  rule('posted', 'Without a reply, the writes are done.', (t) => {
    const peer = agreed(t);
    peer.command(MULTI, request.writeMulti([line(0x61), line(0x62)]), { flags: NO_REPLY });
    const now = readLine(peer);
    demand(now === 0x62, `0x62 reads as 0x${now.toString(16)}`);
  }),
  rule(
    'not-agreed',
    'A client that did not propose write_multiple is refused.',
    refusalsOf(MULTI, (t) => t.agreed({ max_msg_fds: 1 }))(
      'a client that did not propose it',
      request.writeMulti([line(1)]),
    ),
    'VFIO_USER_VERSION, write_multiple',
  ),
];
