/** DEVICE_RESET, and what stays and goes with a client. */
import { PCI_COMMAND, PCI_COMMAND_MASTER, PCI_COMMAND_MEMORY, PCI_INTERRUPT_LINE } from '../../abi/pci_regs.ts';
import { VFIO_DEVICE_FLAGS_RESET } from '../../abi/vfio.ts';
import {
  VFIO_USER_DEVICE_GET_INFO,
  VFIO_USER_DEVICE_RESET,
  VFIO_USER_DEVICE_SET_IRQS,
  VFIO_USER_DMA_MAP,
  VFIO_USER_VERSION,
} from '../../abi/vfio-user.ts';
import { NO_REPLY, type RawPeer } from '../peer.ts';
import { readConfig, writeConfig } from '../registers.ts';
import * as request from '../requests.ts';
import { rulesOf } from '../rule.ts';
import type { Trial } from '../trial.ts';
import { demand, needs, unclear } from '../verdict.ts';
import { someIrq } from './irq.ts';

const reset = rulesOf('reset', 'VFIO_USER_DEVICE_RESET');
const leaving = rulesOf('reset', 'Client Disconnection');
const RESET = VFIO_USER_DEVICE_RESET;
const MAP = VFIO_USER_DMA_MAP;
const AT = 0x80_0000;
const FOUR = 16384;
const MEMORY_AND_MASTER = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;

function resettable(t: Trial): RawPeer {
  needs((t.facts.flags & VFIO_DEVICE_FLAGS_RESET) !== 0, 'the device has no reset');
  return t.ready();
}

export const RESET_RULES = [
  reset('reset', 'A device with the flag RESET can be reset; the reply has no payload.', (t) => {
    const { payload } = resettable(t).ok(RESET);
    demand(payload.length === 0, `the reply has ${payload.length} bytes`);
  }),
  reset('without-the-flag', 'A device without the flag RESET refuses a reset.', (t) => {
    needs((t.facts.flags & VFIO_DEVICE_FLAGS_RESET) === 0, 'the device has a reset');
    t.ready().refused('a reset', RESET);
  }),
  reset('twice', 'A device can be reset again and again.', (t) => {
    const peer = resettable(t);
    for (let i = 0; i < 3; i++) peer.ok(RESET);
  }),
  reset('posted', 'A reset without a reply is done before the next command.', (t) => {
    const peer = resettable(t);
    peer.command(RESET, new Uint8Array(0), { flags: NO_REPLY });
    t.stillServes(peer);
  }),
  reset(
    'command-register',
    'The text does not say whether PCI_COMMAND is restored after a reset, as Linux does.',
    (t) => {
      const peer = resettable(t);
      writeConfig(peer, PCI_COMMAND, MEMORY_AND_MASTER, 2);
      peer.ok(RESET);
      const now = readConfig(peer, PCI_COMMAND, 2);
      unclear((now & MEMORY_AND_MASTER) === 0 ? 'it is cleared' : 'it is restored');
    },
    'PCI Express, 6.6.2',
  ),
  reset('keeps-identity', 'A reset keeps the identity of the device.', (t) => {
    const peer = resettable(t);
    peer.ok(RESET);
    const now = readConfig(peer, 0, 4);
    demand(now === t.facts.config.readUInt32LE(0), `the IDs are 0x${now.toString(16)} after the reset`);
  }),
  reset('keeps-regions', "A reset keeps the client's memory regions.", (t) => {
    const peer = resettable(t);
    peer.ok(MAP, request.dmaMap({ addr: AT, size: FOUR }));
    peer.ok(RESET);
    peer.refused('the region, which is still there', MAP, request.dmaMap({ addr: AT, size: FOUR }));
  }),
  reset('info-stays', 'A reset changes nothing that the device says of itself.', (t) => {
    const peer = resettable(t);
    const before = peer.ok(VFIO_USER_DEVICE_GET_INFO, request.deviceInfo()).payload;
    peer.ok(RESET);
    const after = peer.ok(VFIO_USER_DEVICE_GET_INFO, request.deviceInfo()).payload;
    demand(before.equals(after), `${before.toString('hex')}, then ${after.toString('hex')}`);
  }),
  reset('with-payload', 'The text does not say what a payload of a reset means.', (t) => {
    const peer = resettable(t);
    peer.command(RESET, Buffer.alloc(8));
    const reply = peer.answersOrEnds('a reset with a payload');
    unclear(reply === null ? 'the connection ends' : reply.failed ? 'it is refused' : 'it is ignored');
  }),
  leaving('next-client', 'The device takes the next client when one has left.', (t) => {
    t.ready();
    t.successorOf({});
  }),
  leaving('many-clients', 'Ten clients come and go.', (t) => {
    t.ready();
    for (let i = 0; i < 10; i++) t.stillServes(t.successorOf({}));
  }),
  leaving('memory-is-unmapped', "A client's memory is unmapped when it has left.", (t) => {
    const memory = t.memfd(FOUR);
    t.ready().ok(MAP, request.dmaMap({ addr: AT, size: FOUR }), { fds: [memory.fd] });
    t.successorOf({});
    demand(t.isUnmapped(memory), 'the server still maps the memory for writing');
  }),
  leaving(
    'regions-are-gone',
    "A client's regions are gone when it has left: the next one maps the same range.",
    (t) => {
      t.ready().ok(MAP, request.dmaMap({ addr: AT, size: FOUR }));
      t.successorOf({}).ok(MAP, request.dmaMap({ addr: AT, size: FOUR }));
    },
  ),
  leaving(
    'interrupts-are-gone',
    "A client's eventfds are closed when it has left: a trigger of the next one is not its.",
    (t) => {
      const { index } = someIrq(t);
      const fd = t.eventfd();
      const assign = request.setIrqs({ flags: request.TRIGGER_FD, index });
      t.ready().ok(VFIO_USER_DEVICE_SET_IRQS, assign, { fds: [fd.fd] });
      const next = t.successorOf({});
      next.call(VFIO_USER_DEVICE_SET_IRQS, request.setIrqs({ flags: request.TRIGGER, index }));
      t.demandNoSignal(next, fd, 'a trigger of the next client');
    },
  ),
  leaving(
    'descriptors-are-closed',
    'The server holds no more descriptors after a client than after the one before.',
    (t) => {
      const { index } = someIrq(t);
      const assign = request.setIrqs({ flags: request.TRIGGER_FD, index });
      let before = 0;
      for (let i = 0; i < 4; i++) {
        const peer = t.successorOf({ max_msg_fds: 8 });
        t.stillServes(peer);
        if (i === 1) before = t.serverFds(peer);
        if (i === 3) t.demandFds(peer, before, 'two clients with memory and an eventfd');
        peer.ok(MAP, request.dmaMap({ addr: AT, size: FOUR }), { fds: [t.memfd(FOUR).fd] });
        peer.ok(VFIO_USER_DEVICE_SET_IRQS, assign, { fds: [t.eventfd().fd] });
      }
    },
  ),
  leaving('refused-clients-leave-nothing', 'A VERSION that is refused leaves no descriptor behind.', (t) => {
    let before = 0;
    for (let i = 0; i < 8; i++) {
      const bad = t.raw();
      bad.command(VFIO_USER_VERSION, request.version('{}', 7, 0));
      bad.answersOrEnds('major version 7');
      if (i === 1) {
        const peer = t.successorOf({});
        before = t.serverFds(peer);
      }
      t.closePeers();
    }
    t.demandFds(t.successorOf({}), before, '6 clients that were refused');
  }),
  leaving('state-is-kept', 'The device state should be kept for the next client; the text recommends it.', (t) => {
    writeConfig(t.ready(), PCI_INTERRUPT_LINE, 0x77, 1);
    const kept = readConfig(t.successorOf({}), PCI_INTERRUPT_LINE, 1) === 0x77;
    unclear(kept ? 'config space is kept' : 'config space is reset');
  }),
  leaving('identity-is-kept', 'The next client finds the same device.', (t) => {
    t.ready();
    const now = readConfig(t.successorOf({}), 0, 4);
    demand(now === t.facts.config.readUInt32LE(0), `the IDs are 0x${now.toString(16)}`);
  }),
  leaving(
    'second-client',
    'A second client does not disturb the first one.',
    (t) => {
      const first = t.ready();
      const second = t.raw();
      second.command(VFIO_USER_VERSION, request.proposal({}));
      t.stillServes(first);
      second.close();
      t.stillServes(first);
    },
    'Socket',
  ),
  leaving(
    'second-client-waits',
    'A second client is served, refused, or waits until the first has left.',
    (t) => {
      const first = t.ready();
      const second = t.raw();
      second.command(VFIO_USER_VERSION, request.proposal({}));
      t.stillServes(first);
      first.close();
      second.answersOrEnds('VERSION of a client that waits');
    },
    'Socket',
  ),
];
