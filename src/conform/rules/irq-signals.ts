/** SET_IRQS where it is right: an eventfd is signalled when it should, and only then. */
import {
  VFIO_IRQ_INFO_EVENTFD,
  VFIO_IRQ_INFO_MASKABLE,
  VFIO_IRQ_SET_ACTION_MASK,
  VFIO_IRQ_SET_ACTION_TRIGGER,
  VFIO_IRQ_SET_ACTION_UNMASK,
  VFIO_IRQ_SET_DATA_BOOL,
  VFIO_IRQ_SET_DATA_NONE,
  VFIO_PCI_MSI_IRQ_INDEX,
  VFIO_PCI_MSIX_IRQ_INDEX,
} from '../../abi/vfio.ts';
import { VFIO_USER_DEVICE_RESET, VFIO_USER_DEVICE_SET_IRQS } from '../../abi/vfio-user.ts';
import type { OwnedFd } from '../../linux/fd.ts';
import type { RawPeer } from '../peer.ts';
import * as request from '../requests.ts';
import { rulesOf } from '../rule.ts';
import type { Trial } from '../trial.ts';
import { needs } from '../verdict.ts';

const rule = rulesOf('irq', 'VFIO_USER_DEVICE_SET_IRQS');
const SET = VFIO_USER_DEVICE_SET_IRQS;
const { TRIGGER, TRIGGER_FD } = request;
const TRIGGER_BOOL = VFIO_IRQ_SET_DATA_BOOL | VFIO_IRQ_SET_ACTION_TRIGGER;

/** A type with `vectors` interrupts at least, those of messages first. */
function indexWith(t: Trial, vectors: number): number {
  const order = [VFIO_PCI_MSIX_IRQ_INDEX, VFIO_PCI_MSI_IRQ_INDEX, 0];
  const found = order.find((index) => {
    const irq = t.facts.irqs[index];
    return irq !== undefined && irq.count >= vectors && (irq.flags & VFIO_IRQ_INFO_EVENTFD) !== 0;
  });
  needs(found !== undefined, `no type has ${vectors} interrupts`);
  return found;
}

/** Gives the first `count` interrupts an eventfd each. */
function assign(t: Trial, peer: RawPeer, index: number, count: number): OwnedFd[] {
  const fds = Array.from({ length: count }, () => t.eventfd());
  peer.ok(SET, request.setIrqs({ flags: TRIGGER_FD, index, count }), { fds: fds.map(({ fd }) => fd) });
  return fds;
}

function trigger(peer: RawPeer, index: number, start = 0, count = 1): void {
  peer.call(SET, request.setIrqs({ flags: TRIGGER, index, start, count }));
}

export const IRQ_SIGNAL_RULES = [
  rule('assign', 'A client assigns an eventfd.', (t) => {
    const index = indexWith(t, 1);
    assign(t, t.ready(), index, 1);
  }),
  rule('trigger', 'A trigger of the client signals the eventfd.', (t) => {
    const index = indexWith(t, 1);
    const peer = t.ready();
    const [fd] = assign(t, peer, index, 1);
    peer.ok(SET, request.setIrqs({ flags: TRIGGER, index }));
    t.demandSignal(fd, 'a trigger');
  }),
  rule('trigger-one-of-two', 'A trigger signals the interrupt of its range, and no other.', (t) => {
    const index = indexWith(t, 2);
    const peer = t.ready();
    const [first, second] = assign(t, peer, index, 2);
    peer.ok(SET, request.setIrqs({ flags: TRIGGER, index, start: 1 }));
    t.demandSignal(second, 'a trigger of vector 1');
    t.demandNoSignal(peer, first, 'a trigger of vector 1, seen by vector 0');
  }),
  rule('bool-true', 'DATA_BOOL triggers where the byte is not zero.', (t) => {
    const index = indexWith(t, 1);
    const peer = t.ready();
    const [fd] = assign(t, peer, index, 1);
    peer.ok(SET, request.setIrqs({ flags: TRIGGER_BOOL, index, data: [1] }));
    t.demandSignal(fd, 'DATA_BOOL 1');
  }),
  rule('bool-false', 'DATA_BOOL does nothing where the byte is zero.', (t) => {
    const index = indexWith(t, 1);
    const peer = t.ready();
    const [fd] = assign(t, peer, index, 1);
    peer.ok(SET, request.setIrqs({ flags: TRIGGER_BOOL, index, data: [0] }));
    t.demandNoSignal(peer, fd, 'DATA_BOOL 0');
  }),
  rule('bool-mixed', 'DATA_BOOL chooses interrupts one by one.', (t) => {
    const index = indexWith(t, 3);
    const peer = t.ready();
    const [first, second, third] = assign(t, peer, index, 3);
    peer.ok(SET, request.setIrqs({ flags: TRIGGER_BOOL, index, count: 3, data: [1, 0, 1] }));
    t.demandSignal(first, 'DATA_BOOL 1 0 1, vector 0');
    t.demandSignal(third, 'DATA_BOOL 1 0 1, vector 2');
    t.demandNoSignal(peer, second, 'DATA_BOOL 1 0 1, vector 1');
  }),
  rule('replace', 'A new eventfd replaces the one before.', (t) => {
    const index = indexWith(t, 1);
    const peer = t.ready();
    const [old] = assign(t, peer, index, 1);
    const [now] = assign(t, peer, index, 1);
    trigger(peer, index);
    t.demandSignal(now, 'a trigger, with the new eventfd');
    t.demandNoSignal(peer, old, 'a trigger, with the old eventfd');
  }),
  rule('de-assign', 'DATA_EVENTFD without descriptors de-assigns an interrupt.', (t) => {
    const index = indexWith(t, 1);
    const peer = t.ready();
    const [fd] = assign(t, peer, index, 1);
    peer.ok(SET, request.setIrqs({ flags: TRIGGER_FD, index }));
    trigger(peer, index);
    t.demandNoSignal(peer, fd, 'a trigger after the eventfd was taken away');
  }),
  rule('disable', 'DATA_NONE with count 0 disables all interrupts of the index.', (t) => {
    const index = indexWith(t, 1);
    const peer = t.ready();
    const [fd] = assign(t, peer, index, 1);
    peer.ok(SET, request.setIrqs({ flags: TRIGGER, index, count: 0 }));
    trigger(peer, index);
    t.demandNoSignal(peer, fd, 'a trigger after all were disabled');
  }),
  rule('enable-again', 'After being disabled, interrupts can be assigned again.', (t) => {
    const index = indexWith(t, 1);
    const peer = t.ready();
    assign(t, peer, index, 1);
    peer.ok(SET, request.setIrqs({ flags: TRIGGER, index, count: 0 }));
    const [fd] = assign(t, peer, index, 1);
    trigger(peer, index);
    t.demandSignal(fd, 'a trigger after the second assignment');
  }),
  rule('disable-twice', 'Disabling what is disabled does no harm.', (t) => {
    const index = indexWith(t, 1);
    const peer = t.ready();
    for (let i = 0; i < 2; i++) peer.call(SET, request.setIrqs({ flags: TRIGGER, index, count: 0 }));
    t.stillServes(peer);
  }),
  rule('trigger-unassigned', 'A trigger of an interrupt without an eventfd does no harm.', (t) => {
    const index = indexWith(t, 1);
    const peer = t.ready();
    trigger(peer, index);
    t.stillServes(peer);
  }),
  rule('all-vectors', 'All interrupts of a type can be assigned in parts of as many as fit a message.', (t) => {
    const index = indexWith(t, 2);
    const peer = t.ready();
    const count = Math.min(t.facts.irqs[index].count, 64);
    const part = Math.max(1, Math.min(8, t.facts.limits.maxMsgFds));
    for (let start = 0; start < count; start += part) {
      const fds = Array.from({ length: Math.min(part, count - start) }, () => t.eventfd().fd);
      peer.ok(SET, request.setIrqs({ flags: TRIGGER_FD, index, start, count: fds.length }), { fds });
    }
  }),
  rule('mask-intx', 'INTx is masked by DATA_NONE, and unmasked.', (t) => {
    needs(
      (t.facts.irqs[0]?.count ?? 0) > 0 && (t.facts.irqs[0].flags & VFIO_IRQ_INFO_MASKABLE) !== 0,
      'there is no INTx',
    );
    const peer = t.ready();
    assign(t, peer, 0, 1);
    peer.ok(SET, request.setIrqs({ flags: VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_MASK, index: 0 }));
    peer.ok(SET, request.setIrqs({ flags: VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK, index: 0 }));
  }),
  rule('replaced-descriptors-are-closed', 'The server closes an eventfd that was replaced.', (t) => {
    const index = indexWith(t, 1);
    const peer = t.ready();
    assign(t, peer, index, 1);
    const before = t.serverFds(peer);
    for (let i = 0; i < 8; i++) assign(t, peer, index, 1);
    t.demandFds(peer, before, '8 replacements of an eventfd');
  }),
  rule('disabled-descriptors-are-closed', 'The server closes the eventfds of interrupts that are disabled.', (t) => {
    const index = indexWith(t, 1);
    const peer = t.ready();
    t.stillServes(peer);
    const before = t.serverFds(peer);
    assign(t, peer, index, 1);
    peer.ok(SET, request.setIrqs({ flags: TRIGGER, index, count: 0 }));
    t.demandFds(peer, before, 'an eventfd whose interrupt is disabled');
  }),
  rule('after-a-reset', 'A reset may disable interrupts; assigning them again works.', (t) => {
    const index = indexWith(t, 1);
    const peer = t.ready();
    assign(t, peer, index, 1);
    peer.call(VFIO_USER_DEVICE_RESET);
    const [fd] = assign(t, peer, index, 1);
    trigger(peer, index);
    t.demandSignal(fd, 'a trigger after reset and assignment');
  }),
];
