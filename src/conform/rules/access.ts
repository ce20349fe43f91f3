/** REGION_READ and REGION_WRITE, on config space, which every device has. */
import { PCI_COMMAND, PCI_COMMAND_INTX_DISABLE, PCI_INTERRUPT_LINE } from '../../abi/pci_regs.ts';
import { VFIO_REGION_INFO_FLAG_WRITE } from '../../abi/vfio.ts';
import { VFIO_USER_REGION_READ, VFIO_USER_REGION_WRITE } from '../../abi/vfio-user.ts';
import { CONFIG } from '../facts.ts';
import { NO_REPLY, type RawPeer } from '../peer.ts';
import * as request from '../requests.ts';
import { refusalsOf, rulesOf } from '../rule.ts';
import type { Trial } from '../trial.ts';
import { demand, needs, unclear } from '../verdict.ts';

const reading = rulesOf('access', 'VFIO_USER_REGION_READ');
const writing = rulesOf('access', 'VFIO_USER_REGION_WRITE');
const READ = VFIO_USER_REGION_READ;
const WRITE = VFIO_USER_REGION_WRITE;
const refusesRead = refusalsOf(READ);
const refusesWrite = refusalsOf(WRITE);
const HEAD = 16;
/** A bit that every device has, and whose change does no harm. */
const INTX_DISABLE = PCI_COMMAND_INTX_DISABLE;

function read(peer: RawPeer, offset: number, count: number): Buffer {
  const { payload } = peer.ok(READ, request.access(CONFIG, offset, count));
  demand(payload.length === HEAD + count, `${payload.length} bytes for a read of ${count}`);
  return payload.subarray(HEAD);
}

function write(peer: RawPeer, offset: number, bytes: readonly number[]): void {
  peer.ok(WRITE, request.access(CONFIG, offset, bytes.length, Buffer.from(bytes)));
}

function readsSize(count: number) {
  return (t: Trial) => {
    const bytes = read(t.ready(), 0, count);
    demand(bytes.equals(t.facts.config.subarray(0, count)), `the bytes are ${bytes.toString('hex')}`);
  };
}

/** The size of config space. */
function size(t: Trial): number {
  const { size } = t.facts.regions[CONFIG];
  needs(Number.isSafeInteger(size), 'config space has 2^53 bytes or more');
  return size;
}

const four = Buffer.from([1, 2, 3, 4]);

function absent(t: Trial): number {
  const region = t.facts.regions.find((each) => each.size === 0);
  needs(region !== undefined, 'the device has every region');
  return region.index;
}

function tooMuch(t: Trial): number {
  const { maxDataXferBytes } = t.facts.limits;
  needs(maxDataXferBytes < 32 << 20, `max_data_xfer_size is ${maxDataXferBytes}`);
  return maxDataXferBytes + 1;
}

export const ACCESS_RULES = [
  reading('read-1', 'A client reads one byte.', readsSize(1)),
  reading('read-2', 'A client reads two bytes.', readsSize(2)),
  reading('read-4', 'A client reads four bytes.', readsSize(4)),
  reading('read-8', 'A client reads eight bytes.', readsSize(8)),
  reading('read-64', 'A client reads 64 bytes.', readsSize(64)),
  reading('read-all', 'A client reads all of config space at once.', (t) => {
    read(t.ready(), 0, size(t));
  }),
  reading('read-last-byte', 'The last byte of a region can be read.', (t) => {
    read(t.ready(), size(t) - 1, 1);
  }),
  reading('read-odd', 'A read may begin at an odd offset.', (t) => {
    const bytes = read(t.ready(), 1, 3);
    demand(bytes.equals(t.facts.config.subarray(1, 4)), `the bytes are ${bytes.toString('hex')}`);
  }),
  reading('read-echoes', 'The reply to a read repeats offset, region and count.', (t) => {
    const { payload } = t.ready().ok(READ, request.access(CONFIG, 2, 2));
    const head = request.access(CONFIG, 2, 2);
    demand(
      payload.subarray(0, HEAD).equals(head),
      `the reply begins with ${payload.subarray(0, HEAD).toString('hex')}`,
    );
  }),
  reading('read-brings-count', 'The reply to a read has as much data as its count says.', (t) => {
    const { payload } = t.ready().ok(READ, request.access(CONFIG, 0, 6));
    demand(
      payload.length === HEAD + payload.readUInt32LE(12),
      `${payload.length} bytes, count ${payload.readUInt32LE(12)}`,
    );
  }),
  reading('read-in-parts', 'Bytes, words and double words of the same place agree.', (t) => {
    const peer = t.ready();
    const whole = read(peer, 0, 4);
    const bytes = Buffer.concat([0, 1, 2, 3].map((offset) => read(peer, offset, 1)));
    const words = Buffer.concat([0, 2].map((offset) => read(peer, offset, 2)));
    demand(
      whole.equals(bytes) && whole.equals(words),
      `${whole.toString('hex')} ${bytes.toString('hex')} ${words.toString('hex')}`,
    );
  }),
  reading(
    'read-behind-the-end',
    'A read behind the end of a region is refused.',
    refusesRead('a read behind the end', (t) => request.access(CONFIG, size(t), 4)),
  ),
  reading(
    'read-across-the-end',
    'A read that crosses the end of a region is refused.',
    refusesRead('a read across the end', (t) => request.access(CONFIG, size(t) - 2, 4)),
  ),
  reading(
    'read-far-behind',
    'A read at 2^63 is refused.',
    refusesRead('a read at 2^63', () => request.access(CONFIG, 1n << 63n, 4)),
  ),
  reading(
    'read-wraps',
    'A read whose end wraps around 2^64 is refused.',
    refusesRead('a read at 2^64 - 2', () => request.access(CONFIG, (1n << 64n) - 2n, 4)),
  ),
  reading(
    'read-of-4-gib',
    'A read of 4 GiB is refused.',
    refusesRead('a read of 2^32 - 1 bytes', () => request.access(CONFIG, 0, 0xffff_ffff)),
  ),
  reading(
    'read-beyond-the-limit',
    'A read of more than max_data_xfer_size bytes is refused.',
    refusesRead('a read of more bytes than agreed', (t) => request.access(CONFIG, 0, tooMuch(t))),
    'Read and Write Operations',
  ),
  reading(
    'read-unknown-region',
    'A read of a region from num_regions on is refused.',
    refusesRead('a read of an unknown region', (t) => request.access(t.facts.numRegions, 0, 4)),
  ),
  reading(
    'read-largest-region',
    'A read of the region 0xffffffff is refused.',
    refusesRead('a read of region 0xffffffff', () => request.access(0xffff_ffff, 0, 4)),
  ),
  reading(
    'read-absent-region',
    'A read of a region with size 0 is refused.',
    refusesRead('a read of an absent region', (t) => request.access(absent(t), 0, 4)),
  ),
  reading(
    'read-without-struct',
    'A read without its struct is refused.',
    refusesRead('a read of 8 bytes', () => request.access(CONFIG, 0, 4).subarray(0, 8)),
  ),
  reading('read-0', 'The text does not say what a read of 0 bytes is.', (t) => {
    const reply = t.ready().call(READ, request.access(CONFIG, 0, 0));
    unclear(reply.failed ? 'it is refused' : 'it succeeds');
  }),
  reading('read-with-data', 'A read has no data; the text does not say what a server does with some.', (t) => {
    const reply = t.ready().call(READ, request.access(CONFIG, 0, 4, four));
    unclear(reply.failed ? 'it is refused' : 'the data are ignored');
  }),
  writing('write-and-read', 'A written bit is read back.', (t) => {
    const peer = t.ready();
    const value = read(peer, PCI_COMMAND, 2).readUInt16LE(0) ^ INTX_DISABLE;
    write(peer, PCI_COMMAND, [value & 0xff, value >> 8]);
    const now = read(peer, PCI_COMMAND, 2).readUInt16LE(0);
    demand((now & INTX_DISABLE) === (value & INTX_DISABLE), `0x${value.toString(16)} reads as 0x${now.toString(16)}`);
  }),
  writing(
    'write-a-byte',
    'A single byte can be written: PCI_INTERRUPT_LINE keeps what software writes.',
    (t) => {
      const peer = t.ready();
      write(peer, PCI_INTERRUPT_LINE, [0x5a]);
      const now = read(peer, PCI_INTERRUPT_LINE, 1)[0];
      demand(now === 0x5a, `0x5a reads as 0x${now.toString(16)}`);
    },
    'PCI Local Bus, 6.2.4',
  ),
  writing('write-four-bytes', 'Four bytes can be written at once.', (t) => {
    const peer = t.ready();
    const before = read(peer, PCI_INTERRUPT_LINE, 4);
    write(peer, PCI_INTERRUPT_LINE, [0xa5, before[1], before[2], before[3]]);
    const now = read(peer, PCI_INTERRUPT_LINE, 1)[0];
    demand(now === 0xa5, `0xa5 reads as 0x${now.toString(16)}`);
  }),
  writing('write-echoes', 'The reply to a write repeats offset, region and count, and brings no data.', (t) => {
    const { payload } = t.ready().ok(WRITE, request.access(CONFIG, PCI_INTERRUPT_LINE, 1, Buffer.from([0])));
    demand(payload.equals(request.access(CONFIG, PCI_INTERRUPT_LINE, 1)), `the reply is ${payload.toString('hex')}`);
  }),
  writing('write-posted', 'A write without a reply is done.', (t) => {
    const peer = t.ready();
    peer.command(WRITE, request.access(CONFIG, PCI_INTERRUPT_LINE, 1, Buffer.from([0x33])), { flags: NO_REPLY });
    const now = read(peer, PCI_INTERRUPT_LINE, 1)[0];
    demand(now === 0x33, `0x33 reads as 0x${now.toString(16)}`);
  }),
  writing(
    'write-read-only',
    'A write of a read-only register succeeds and changes nothing: the vendor ID.',
    (t) => {
      const peer = t.ready();
      peer.call(WRITE, request.access(CONFIG, 0, 2, Buffer.from([0x12, 0x34])));
      const now = read(peer, 0, 2);
      demand(now.equals(t.facts.config.subarray(0, 2)), `the vendor ID reads as ${now.toString('hex')}`);
    },
    'PCI Local Bus, 6.2.1',
  ),
  writing(
    'write-behind-the-end',
    'A write behind the end of a region is refused.',
    refusesWrite('a write behind the end', (t) => request.access(CONFIG, size(t), 4, four)),
  ),
  writing(
    'write-across-the-end',
    'A write that crosses the end of a region is refused.',
    refusesWrite('a write across the end', (t) => request.access(CONFIG, size(t) - 2, 4, four)),
  ),
  writing(
    'write-wraps',
    'A write whose end wraps around 2^64 is refused.',
    refusesWrite('a write at 2^64 - 2', () => request.access(CONFIG, (1n << 64n) - 2n, 4, four)),
  ),
  writing(
    'write-unknown-region',
    'A write of a region from num_regions on is refused.',
    refusesWrite('a write of an unknown region', (t) => request.access(t.facts.numRegions, 0, 4, four)),
  ),
  writing(
    'write-absent-region',
    'A write of a region with size 0 is refused.',
    refusesWrite('a write of an absent region', (t) => request.access(absent(t), 0, 4, four)),
  ),
  writing(
    'write-with-too-few-data',
    'A write whose count is larger than its data is refused.',
    refusesWrite('a write of 8 bytes with 4', () => request.access(CONFIG, 0x40, 8, four)),
  ),
  writing(
    'write-without-data',
    'A write without data is refused.',
    refusesWrite('a write of 4 bytes with none', () => request.access(CONFIG, 0x40, 4)),
  ),
  writing(
    'write-of-4-gib',
    'A write whose count is 4 GiB is refused.',
    refusesWrite('a count of 2^32 - 1', () => request.access(CONFIG, 0, 0xffff_ffff, four)),
  ),
  writing(
    'write-without-struct',
    'A write without its struct is refused.',
    refusesWrite('a write of 8 bytes', () => request.access(CONFIG, 0, 4).subarray(0, 8)),
  ),
  writing(
    'write-beyond-the-limit',
    'A write of more than max_data_xfer_size bytes is refused, or ends the connection.',
    (t) => {
      const count = tooMuch(t);
      const peer = t.ready();
      peer.command(WRITE, request.access(CONFIG, 0, count, Buffer.alloc(count)));
      peer.refusesOrEnds('a write of more bytes than agreed');
    },
    'Read and Write Operations',
  ),
  writing('write-unwritable-region', 'A write of a region without the flag WRITE is refused.', (t) => {
    const region = t.facts.regions.find(({ flags, size }) => size > 0 && (flags & VFIO_REGION_INFO_FLAG_WRITE) === 0);
    needs(region !== undefined, 'every region can be written');
    t.ready().refused(`a write of region ${region.index}`, WRITE, request.access(region.index, 0, 4, four));
  }),
  writing('write-with-more-data', 'The text does not say what data beyond the count are.', (t) => {
    const peer = t.ready();
    peer.command(WRITE, request.access(CONFIG, PCI_INTERRUPT_LINE, 1, Buffer.from([0x11, 0, 0, 0])));
    const reply = peer.answersOrEnds('a write with more data than its count');
    unclear(reply === null ? 'the connection ends' : reply.failed ? 'it is refused' : 'they are ignored');
  }),
  writing('write-0', 'The text does not say what a write of 0 bytes is.', (t) => {
    const reply = t.ready().call(WRITE, request.access(CONFIG, 0, 0));
    unclear(reply.failed ? 'it is refused' : 'it succeeds');
  }),
];
