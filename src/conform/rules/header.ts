/** The header, and how messages lie in the stream. */
import { PCI_COMMAND, PCI_COMMAND_INTX_DISABLE } from '../../abi/pci_regs.ts';
import {
  VFIO_USER_DEVICE_GET_INFO,
  VFIO_USER_DEVICE_RESET,
  VFIO_USER_DIRTY_PAGES,
  VFIO_USER_DMA_READ,
  VFIO_USER_DMA_WRITE,
  VFIO_USER_REGION_READ,
  VFIO_USER_REGION_WRITE,
} from '../../abi/vfio-user.ts';
import { CONFIG } from '../facts.ts';
import { messageBytes, NO_REPLY } from '../peer.ts';
import { readConfig } from '../registers.ts';
import * as request from '../requests.ts';
import { refusalsOf, rulesOf } from '../rule.ts';
import type { Trial } from '../trial.ts';
import { demand, unclear } from '../verdict.ts';

const rule = rulesOf('header', 'Header');
const INFO = VFIO_USER_DEVICE_GET_INFO;

function echoesId(id: number) {
  return (t: Trial) => {
    t.ready().ok(INFO, request.deviceInfo(), { id });
  };
}

const refusesCommand = (command: number) => refusalsOf(command)(`a command ${command}`, new Uint8Array(0));

export const HEADER_RULES = [
  rule('id-is-echoed', 'A reply carries the id of its command.', echoesId(0x1234)),
  rule('id-zero', 'The client chooses any id, also 0.', echoesId(0)),
  rule('id-largest', 'The client chooses any id, also 0xffff.', echoesId(0xffff)),
  rule('id-again', 'An id may be used again while it is in use: both commands are answered.', (t) => {
    const peer = t.ready();
    for (let i = 0; i < 2; i++) peer.command(INFO, request.deviceInfo(), { id: 7 });
    for (let i = 0; i < 2; i++) peer.replyTo(7, INFO);
  }),
  rule('reply-type', 'A reply has type 1 and the No_reply bit clear.', (t) => {
    const { flags } = t.ready().ok(INFO, request.deviceInfo());
    demand((flags & 0xf) === 1, `the reply's flags are 0x${flags.toString(16)}`);
    demand((flags & NO_REPLY) === 0, `the reply's flags are 0x${flags.toString(16)}`);
  }),
  rule('success-has-no-error-bit', 'The error bit is clear in the reply to a command that succeeded.', (t) => {
    const { failed } = t.ready().call(INFO, request.deviceInfo());
    demand(!failed, 'the error bit is set');
  }),
  rule('unknown-flags-clear', 'A reply sets only the flag bits that the protocol defines.', (t) => {
    const { flags } = t.ready().ok(INFO, request.deviceInfo());
    demand((flags & ~0x3f) === 0, `the reply's flags are 0x${flags.toString(16)}`);
  }),
  rule('error-is-header-alone', 'The reply to a command that failed is the header alone.', (t) => {
    const { payload } = t.ready().refused('region 0xffff', VFIO_USER_REGION_READ, request.access(0xffff, 0, 4));
    demand(payload.length === 0, `${payload.length} bytes follow the header`);
  }),
  rule('error-of-info-is-header-alone', 'The reply to a query that failed is the header alone.', (t) => {
    const { payload } = t.ready().refused('argsz 0', INFO, request.deviceInfo(0));
    demand(payload.length === 0, `${payload.length} bytes follow the header`);
  }),
  rule('no-reply', 'A command with the No_reply bit gets no reply.', (t) => {
    const peer = t.ready();
    peer.command(INFO, request.deviceInfo(), { id: 5, flags: NO_REPLY });
    peer.ok(INFO, request.deviceInfo(), { id: 6 });
  }),
  rule('no-reply-even-to-errors', 'A command with the No_reply bit gets no reply where it fails.', (t) => {
    const peer = t.ready();
    peer.command(VFIO_USER_REGION_READ, request.access(0xffff, 0, 4), { id: 5, flags: NO_REPLY });
    peer.ok(INFO, request.deviceInfo(), { id: 6 });
  }),
  rule('no-reply-unknown', 'An unknown command with the No_reply bit gets no reply.', (t) => {
    const peer = t.ready();
    peer.command(0x7000, new Uint8Array(0), { id: 5, flags: NO_REPLY });
    peer.ok(INFO, request.deviceInfo(), { id: 6 });
  }),
  rule(
    'no-reply-comes-first',
    'A command with the No_reply bit is done before the reply to a later one is sent.',
    (t) => {
      const peer = t.ready();
      const before = t.facts.config.readUInt16LE(PCI_COMMAND);
      const data = Buffer.alloc(2);
      // Every device has this bit.
      data.writeUInt16LE(before ^ PCI_COMMAND_INTX_DISABLE);
      peer.command(VFIO_USER_REGION_WRITE, request.access(CONFIG, PCI_COMMAND, 2, data), { flags: NO_REPLY });
      const now = readConfig(peer, PCI_COMMAND, 2);
      demand(((now ^ before) & PCI_COMMAND_INTX_DISABLE) !== 0, 'the later read shows the old value');
    },
    'Command Concurrency',
  ),
  rule(
    'in-order',
    'Commands are processed in the order in which they came.',
    (t) => {
      const peer = t.ready();
      for (let id = 1; id <= 32; id++) peer.command(INFO, request.deviceInfo(), { id });
      for (let id = 1; id <= 32; id++) peer.replyTo(id, INFO);
    },
    'Command Concurrency',
  ),
  rule(
    'burst',
    'A client may pipeline commands: 500 in a row are all answered.',
    (t) => {
      const peer = t.ready();
      const one = messageBytes(INFO, request.deviceInfo(), { id: 9 });
      for (let i = 0; i < 10; i++) peer.send(Buffer.concat(new Array(50).fill(one)));
      for (let i = 0; i < 500; i++) peer.replyTo(9, INFO);
    },
    'Command Concurrency',
  ),
  rule('unknown-command-0', 'A command that is not in the table is answered with an error: 0.', refusesCommand(0)),
  rule(
    'removed-command',
    'Command 14 left the protocol, and is answered with an error.',
    refusesCommand(VFIO_USER_DIRTY_PAGES),
  ),
  rule('unknown-command-19', 'The command after the last one is answered with an error.', refusesCommand(19)),
  rule(
    'unknown-command-ffff',
    'A command that is not in the table is answered with an error: 0xffff.',
    refusesCommand(0xffff),
  ),
  rule(
    'dma-read-is-the-servers',
    'DMA_READ goes from server to client; a client that sends it is refused.',
    (t) => {
      t.ready().refused('a client that sends it', VFIO_USER_DMA_READ, Buffer.alloc(16));
    },
    'Commands',
  ),
  rule(
    'dma-write-is-the-servers',
    'DMA_WRITE goes from server to client; a client that sends it is refused.',
    (t) => {
      t.ready().refused('a client that sends it', VFIO_USER_DMA_WRITE, Buffer.alloc(24));
    },
    'Commands',
  ),
  rule('error-field-of-commands', 'The error field of a command is reserved: the server does not look at it.', (t) => {
    t.ready().ok(INFO, request.deviceInfo(), { error: 5 });
  }),
  rule(
    'error-bit-of-commands',
    'The error bit is for replies; the text does not say what it means in a command.',
    (t) => {
      const reply = t.ready().call(INFO, request.deviceInfo(), { flags: 0x20 });
      unclear(reply.failed ? 'the command is refused' : 'the bit is ignored');
    },
  ),
  rule('flags-above-the-known', 'The text does not say what bits above the known ones mean in a command.', (t) => {
    const peer = t.ready();
    peer.command(INFO, request.deviceInfo(), { flags: 0x8000_0000 });
    const reply = peer.answersOrEnds('an unknown flag');
    unclear(reply === null ? 'the connection ends' : reply.failed ? 'the command is refused' : 'the bit is ignored');
  }),
  rule('unknown-type', 'A message is a command or a reply; one of type 2 is not served.', (t) => {
    const peer = t.ready();
    peer.command(INFO, request.deviceInfo(), { flags: 2 });
    peer.refusesOrEnds('a message of type 2');
  }),
  rule(
    'reply-that-nobody-asked',
    'A reply without a command does not stop the server: it goes on, or hangs up.',
    (t) => {
      const peer = t.ready();
      peer.command(VFIO_USER_DMA_READ, Buffer.alloc(16), { id: 77, flags: 1 });
      peer.command(INFO, request.deviceInfo(), { id: 78 });
      const reply = peer.answersOrEnds('DEVICE_GET_INFO after a stray reply');
      demand(reply === null || reply.id === 78, `a reply with id ${reply?.id} to a stray reply`);
    },
  ),
  rule(
    'no-descriptors',
    'A reply brings descriptors only where its command says so: DEVICE_GET_INFO brings none.',
    (t) => {
      const { fds } = t.ready().ok(INFO, request.deviceInfo());
      demand(fds.length === 0, `${fds.length} descriptors came`);
    },
  ),
  rule('reset-of-the-stream', 'A command without payload is 16 bytes long.', (t) => {
    const peer = t.ready();
    const reply = peer.call(VFIO_USER_DEVICE_RESET);
    demand(reply.payload.length === 0, `DEVICE_RESET brought ${reply.payload.length} bytes`);
    t.stillServes(peer);
  }),
];
