/** Messages that are cut, joined, too short or too long. The rules belong to the group of the header. */
import { VFIO_USER_DEVICE_GET_INFO, VFIO_USER_DMA_MAP, VFIO_USER_VERSION } from '../../abi/vfio-user.ts';
import { PROPOSAL } from '../facts.ts';
import { messageBytes } from '../peer.ts';
import * as request from '../requests.ts';
import { rulesOf } from '../rule.ts';
import type { Trial } from '../trial.ts';
import { demand } from '../verdict.ts';

const rule = rulesOf('header', 'Header');
const INFO = VFIO_USER_DEVICE_GET_INFO;
const question = (id = 3) => messageBytes(INFO, request.deviceInfo(), { id });

/** The size in the header is wrong; the server must answer or hang up, and go on. */
function wrongSize(size: number) {
  return (t: Trial) => {
    const peer = t.ready();
    peer.command(INFO, request.deviceInfo(), { size });
    peer.refusesOrEnds(`a message of size ${size}`);
  };
}

/** The client leaves after these bytes. The engine then looks whether the server takes the next one. */
function leavesAfter(bytes: Uint8Array) {
  return (t: Trial) => {
    const peer = t.ready();
    peer.send(bytes);
    peer.close();
  };
}

/** Sends bytes that a server never needs; it must hang up or answer, and then serve others. */
function leavesUnagreed(bytes: Uint8Array) {
  return (t: Trial) => {
    const peer = t.raw();
    if (bytes.length > 0) peer.send(bytes);
    peer.close();
  };
}

function descriptorsAreClosed(rounds: number, each: number) {
  return (t: Trial) => {
    const peer = t.ready();
    t.stillServes(peer);
    const before = t.serverFds(peer);
    const fds = Array.from({ length: each }, () => t.eventfd().fd);
    for (let i = 0; i < rounds; i++) peer.call(INFO, request.deviceInfo(), { fds });
    t.demandFds(peer, before, `${rounds} commands with ${each} descriptors that they do not take`);
  };
}

export const FRAMING_RULES = [
  rule('split-header', 'A message may come in parts: one byte at a time.', (t) => {
    const peer = t.ready();
    for (const byte of question()) peer.send(Buffer.from([byte]));
    peer.replyTo(3, INFO);
  }),
  rule('split-payload', 'A message may come in parts: the header, then the payload.', (t) => {
    const peer = t.ready();
    peer.send(question().subarray(0, 16));
    peer.send(question().subarray(16));
    peer.replyTo(3, INFO);
  }),
  rule('split-across', 'A message may come in parts: its end together with the next one.', (t) => {
    const peer = t.ready();
    const both = Buffer.concat([question(3), question(4)]);
    peer.send(both.subarray(0, 20));
    peer.send(both.subarray(20));
    peer.replyTo(3, INFO);
    peer.replyTo(4, INFO);
  }),
  rule('joined', 'Several messages may come at once.', (t) => {
    const peer = t.ready();
    peer.send(Buffer.concat([question(3), question(4), question(5)]));
    for (const id of [3, 4, 5]) peer.replyTo(id, INFO);
  }),
  rule('version-split', 'The first message may come in parts.', (t) => {
    const peer = t.raw();
    const bytes = messageBytes(VFIO_USER_VERSION, request.proposal(PROPOSAL), { id: 1 });
    for (let at = 0; at < bytes.length; at += 10) peer.send(bytes.subarray(at, at + 10));
    peer.replyTo(1, VFIO_USER_VERSION);
  }),
  rule('more-than-the-struct', 'A query may bring more bytes than its struct, as QEMU does.', (t) => {
    t.ready().ok(INFO, Buffer.concat([request.deviceInfo(), Buffer.alloc(16)]));
  }),
  rule('size-0', 'A size below that of the header is wrong: 0.', wrongSize(0)),
  rule('size-15', 'A size below that of the header is wrong: 15.', wrongSize(15)),
  rule('size-largest', 'A message of 4 GiB is refused, or ends the connection.', wrongSize(0xffff_ffff)),
  rule('size-2-gib', 'A message of 2 GiB is refused, or ends the connection.', wrongSize(0x8000_0010)),
  rule('size-short', 'A message that is shorter than its struct is refused.', (t) => {
    const peer = t.ready();
    peer.command(INFO, request.deviceInfo().subarray(0, 8));
    peer.refusesOrEnds('a message of 8 bytes of 16');
  }),
  rule('no-payload', 'A query without its struct is refused.', (t) => {
    const peer = t.ready();
    peer.command(INFO);
    peer.refusesOrEnds('a message without payload');
  }),
  rule(
    'half-header-then-close',
    'A client may leave after half a header.',
    leavesAfter(question().subarray(0, 8)),
    'Client Disconnection',
  ),
  rule(
    'half-payload-then-close',
    'A client may leave after half a message.',
    leavesAfter(question().subarray(0, 24)),
    'Client Disconnection',
  ),
  rule(
    'close-before-the-reply',
    'A client may leave before the reply comes.',
    leavesAfter(question()),
    'Client Disconnection',
  ),
  rule(
    'close-before-many-replies',
    'A client may leave with 200 replies on their way.',
    leavesAfter(Buffer.concat(new Array(200).fill(question()))),
    'Client Disconnection',
  ),
  rule(
    'close-at-once',
    'A client may connect and leave without a word.',
    leavesUnagreed(Buffer.alloc(0)),
    'Client Disconnection',
  ),
  rule(
    'half-version-then-close',
    'A client may leave after half of its VERSION.',
    leavesUnagreed(messageBytes(VFIO_USER_VERSION, request.proposal({})).subarray(0, 20)),
    'Client Disconnection',
  ),
  rule(
    'half-a-version-header-then-close',
    'A client may leave after half of its first header.',
    leavesUnagreed(Buffer.from([1, 0, 1, 0, 40])),
    'Client Disconnection',
  ),
  rule(
    'version-then-close',
    'A client may leave before the reply to VERSION.',
    leavesUnagreed(messageBytes(VFIO_USER_VERSION, request.proposal({}))),
    'Client Disconnection',
  ),
  rule('garbage', 'Bytes that are not a message end the connection, or get an error.', (t) => {
    const peer = t.raw();
    peer.send(Buffer.from('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'));
    peer.endSending();
    peer.refusesOrEnds('a request of HTTP');
  }),
  rule(
    'end-of-sending',
    'The server ends the connection when the client has ended its side.',
    (t) => {
      const peer = t.ready();
      peer.endSending();
      peer.awaitEnd('the end of the connection');
    },
    'Client Disconnection',
  ),
  rule(
    'half-message-then-end',
    'The server ends the connection when the client ends its side in a message.',
    (t) => {
      const peer = t.ready();
      peer.send(question().subarray(0, 20));
      peer.endSending();
      peer.awaitEnd('the end of the connection');
    },
    'Client Disconnection',
  ),
  rule('descriptors-nobody-wants', 'A command that takes no descriptors and brings one is answered.', (t) => {
    const peer = t.ready();
    peer.call(INFO, request.deviceInfo(), { fds: [t.eventfd().fd] });
    t.stillServes(peer);
  }),
  rule('descriptors-are-closed', 'The server closes descriptors that it does not need.', descriptorsAreClosed(8, 1)),
  rule('descriptors-with-errors-are-closed', 'The server closes the descriptors of a command that it refuses.', (t) => {
    const peer = t.ready();
    t.stillServes(peer);
    const before = t.serverFds(peer);
    const fds = [t.memfd(4096).fd];
    const wrong = request.dmaMap({ addr: 0x10000, size: 4096, argsz: 4 });
    for (let i = 0; i < 8; i++) {
      const reply = peer.call(VFIO_USER_DMA_MAP, wrong, { fds });
      demand(reply.failed, 'DMA_MAP with argsz 4 succeeded');
    }
    t.demandFds(peer, before, '8 refused commands with a descriptor');
  }),
  rule(
    'too-many-descriptors',
    'More descriptors than agreed are refused, or end the connection.',
    (t) => {
      const peer = t.ready();
      const fds = Array.from({ length: 64 }, () => t.eventfd().fd);
      peer.command(INFO, request.deviceInfo(), { fds });
      peer.answersOrEnds('a command with 64 descriptors');
    },
    'VFIO_USER_VERSION',
  ),
];
