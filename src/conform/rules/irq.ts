/** DEVICE_GET_IRQ_INFO, and DEVICE_SET_IRQS where it is wrong. */
import {
  VFIO_IRQ_INFO_AUTOMASKED,
  VFIO_IRQ_INFO_EVENTFD,
  VFIO_IRQ_INFO_MASKABLE,
  VFIO_IRQ_INFO_NORESIZE,
  VFIO_IRQ_SET_ACTION_MASK,
  VFIO_IRQ_SET_ACTION_TRIGGER,
  VFIO_IRQ_SET_ACTION_UNMASK,
  VFIO_IRQ_SET_DATA_BOOL,
  VFIO_IRQ_SET_DATA_NONE,
  VFIO_PCI_INTX_IRQ_INDEX,
  VFIO_PCI_MSI_IRQ_INDEX,
  vfio_irq_info,
  vfio_irq_set,
} from '../../abi/vfio.ts';
import { VFIO_USER_DEVICE_GET_IRQ_INFO, VFIO_USER_DEVICE_SET_IRQS } from '../../abi/vfio-user.ts';
import type { IrqFacts } from '../facts.ts';
import * as request from '../requests.ts';
import { refusalsOf, rulesOf } from '../rule.ts';
import type { Trial } from '../trial.ts';
import { demand, needs, unclear } from '../verdict.ts';

const info = rulesOf('irq', 'VFIO_USER_DEVICE_GET_IRQ_INFO');
const set = rulesOf('irq', 'VFIO_USER_DEVICE_SET_IRQS');
const INFO = VFIO_USER_DEVICE_GET_IRQ_INFO;
const SET = VFIO_USER_DEVICE_SET_IRQS;
const refusesInfo = refusalsOf(INFO);
const SIZE = vfio_irq_info.sizeof;
const KNOWN = VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED | VFIO_IRQ_INFO_NORESIZE;
const { TRIGGER, TRIGGER_FD } = request;

function each(test: (irq: IrqFacts, reply: Buffer) => string | null, which = (_: IrqFacts) => true) {
  return (t: Trial) => {
    const irqs = t.facts.irqs.filter((irq) => irq.reply !== null && which(irq));
    needs(irqs.length > 0, 'the device has no such interrupt');
    const peer = t.ready();
    for (const { index } of irqs) peer.call(INFO, request.irqInfo(index));
    for (const irq of irqs) {
      const fault = test(irq, irq.reply!);
      demand(fault === null, `index ${irq.index}: ${fault}`);
    }
  };
}

/** An interrupt type that has one at least. */
export function someIrq(t: Trial): IrqFacts {
  const irq = t.facts.irqs.find(({ count, flags }) => count > 0 && (flags & VFIO_IRQ_INFO_EVENTFD) !== 0);
  needs(irq !== undefined, 'the device has no interrupts');
  return irq;
}

/** A request that a server refuses, with `fds` new eventfds. */
function refusesSet(what: string, make: (irq: IrqFacts, t: Trial) => request.IrqRequest, fds = 0) {
  return (t: Trial) => {
    const irq = someIrq(t);
    const peer = t.ready();
    const options = { fds: Array.from({ length: fds }, () => t.eventfd().fd) };
    peer.refused(what, SET, request.setIrqs(make(irq, t)), options);
    t.stillServes(peer);
  };
}

export const IRQ_RULES = [
  info('every-index', 'Each index below num_irqs is answered.', (t) => {
    const peer = t.ready();
    for (const { index } of t.facts.irqs) peer.ok(INFO, request.irqInfo(index));
  }),
  info(
    'info-index-is-echoed',
    'The reply carries the index of the request.',
    each(({ index }, reply) => (reply.readUInt32LE(8) === index ? null : `the reply says ${reply.readUInt32LE(8)}`)),
  ),
  info(
    'info-argsz',
    'argsz of the reply is 16, and the payload is as long.',
    each((_, reply) =>
      reply.readUInt32LE(0) === SIZE && reply.length === SIZE
        ? null
        : `argsz ${reply.readUInt32LE(0)}, ${reply.length} bytes`,
    ),
  ),
  info(
    'info-flags',
    'Only the flags EVENTFD, MASKABLE, AUTOMASKED and NORESIZE are defined.',
    each(({ flags }) => ((flags & ~KNOWN) === 0 ? null : `flags 0x${flags.toString(16)}`)),
  ),
  info(
    'info-eventfd',
    'An interrupt that is there can be signalled by an eventfd.',
    each(
      ({ flags }) => ((flags & VFIO_IRQ_INFO_EVENTFD) !== 0 ? null : `flags 0x${flags.toString(16)}`),
      ({ count }) => count > 0,
    ),
    'linux/vfio.h, vfio_irq_info',
  ),
  info(
    'intx-count',
    'A function has one INTx at most.',
    each(
      ({ count }) => (count <= 1 ? null : `count ${count}`),
      ({ index }) => index === VFIO_PCI_INTX_IRQ_INDEX,
    ),
    'PCI Local Bus, 6.2.4',
  ),
  info(
    'intx-flags',
    'INTx can be masked, and masks itself when it is triggered.',
    each(
      ({ flags }) =>
        (flags & (VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED)) === 6 ? null : `flags 0x${flags.toString(16)}`,
      ({ index, count }) => index === VFIO_PCI_INTX_IRQ_INDEX && count > 0,
    ),
    'linux/vfio.h, vfio_irq_info',
  ),
  info(
    'msi-count',
    'MSI has a power of two of vectors, 32 at most.',
    each(
      ({ count }) => (count <= 32 && Number.isInteger(Math.log2(count)) ? null : `count ${count}`),
      ({ index, count }) => index === VFIO_PCI_MSI_IRQ_INDEX && count > 0,
    ),
    'PCI Local Bus, 6.8.1.3',
  ),
  info(
    'info-behind-the-last',
    'An index from num_irqs on is refused.',
    refusesInfo('an unknown index', (t) => request.irqInfo(t.facts.numIrqs)),
  ),
  info(
    'info-largest',
    'The index 0xffffffff is refused.',
    refusesInfo('index 0xffffffff', () => request.irqInfo(0xffff_ffff)),
  ),
  info(
    'info-argsz-0',
    'A client without room for the struct is refused: argsz 0.',
    refusesInfo('argsz 0', () => request.irqInfo(0, 0)),
  ),
  info(
    'info-argsz-15',
    'A client without room for the struct is refused: argsz 15.',
    refusesInfo('argsz 15', () => request.irqInfo(0, 15)),
  ),
  info(
    'info-short',
    'A query without its struct is refused.',
    refusesInfo('a query of 8 bytes', () => request.irqInfo(0).subarray(0, 8)),
  ),
  info('info-twice', 'The same question has the same answer.', (t) => {
    const peer = t.ready();
    const [first, second] = [0, 1].map(() => peer.call(INFO, request.irqInfo(0)).payload);
    demand(first.equals(second), `${first.toString('hex')}, then ${second.toString('hex')}`);
  }),
  set(
    'index-behind-the-last',
    'SET_IRQS of an index from num_irqs on is refused.',
    refusesSet('an unknown index', (_, t) => ({ flags: TRIGGER_FD, index: t.facts.numIrqs }), 1),
  ),
  set(
    'index-largest',
    'SET_IRQS of the index 0xffffffff is refused.',
    refusesSet('index 0xffffffff', () => ({ flags: TRIGGER_FD, index: 0xffff_ffff }), 1),
  ),
  set(
    'start-behind-the-last',
    'A start from count on is refused.',
    refusesSet('start behind the last', ({ index, count }) => ({ flags: TRIGGER_FD, index, start: count }), 1),
  ),
  set(
    'count-too-large',
    'More interrupts than there are are refused.',
    refusesSet('one interrupt too many', ({ index, count }) => ({ flags: TRIGGER, index, count: count + 1 })),
  ),
  set(
    'range-wraps',
    'A range whose end wraps around 2^32 is refused.',
    refusesSet('start 0xffffffff and count 2', ({ index }) => ({
      flags: TRIGGER,
      index,
      start: 0xffff_ffff,
      count: 2,
    })),
  ),
  set(
    'count-largest',
    'A count of 2^32 - 1 is refused.',
    refusesSet('count 0xffffffff', ({ index }) => ({ flags: TRIGGER, index, count: 0xffff_ffff })),
  ),
  set(
    'no-data-flag',
    'A request names its kind of data.',
    refusesSet('no DATA flag', ({ index }) => ({ flags: VFIO_IRQ_SET_ACTION_TRIGGER, index })),
  ),
  set(
    'no-action-flag',
    'A request names its action.',
    refusesSet('no ACTION flag', ({ index }) => ({ flags: VFIO_IRQ_SET_DATA_NONE, index })),
  ),
  set(
    'two-data-flags',
    'The DATA flags exclude each other.',
    refusesSet('two DATA flags', ({ index }) => ({
      flags: VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_DATA_BOOL | VFIO_IRQ_SET_ACTION_TRIGGER,
      index,
      data: [1],
    })),
  ),
  set(
    'two-action-flags',
    'The ACTION flags exclude each other.',
    refusesSet('two ACTION flags', ({ index }) => ({
      flags: VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_MASK | VFIO_IRQ_SET_ACTION_UNMASK,
      index,
    })),
  ),
  set(
    'unknown-flags',
    'Flags that linux/vfio.h does not define are refused.',
    refusesSet('flag 0x40', ({ index }) => ({ flags: TRIGGER | 0x40, index })),
    'linux/vfio.h, vfio_irq_set',
  ),
  set(
    'argsz-0',
    'An argsz that does not hold the struct is refused.',
    refusesSet('argsz 0', ({ index }) => ({ flags: TRIGGER, index, argsz: 0 })),
  ),
  set(
    'argsz-without-data',
    'argsz counts the data of DATA_BOOL: without room for them it is refused.',
    refusesSet('an argsz that ends before the data', ({ index }) => ({
      flags: VFIO_IRQ_SET_DATA_BOOL | VFIO_IRQ_SET_ACTION_TRIGGER,
      index,
      data: [1],
      argsz: vfio_irq_set.sizeof,
    })),
  ),
  set(
    'bool-without-data',
    'DATA_BOOL without its data is refused.',
    refusesSet('no data', ({ index }) => ({
      flags: VFIO_IRQ_SET_DATA_BOOL | VFIO_IRQ_SET_ACTION_TRIGGER,
      index,
    })),
  ),
  set(
    'short',
    'A request without its struct is refused.',
    refusalsOf(SET)('a request of 8 bytes', request.setIrqs({ flags: TRIGGER, index: 0 }).subarray(0, 8)),
  ),
  set('fewer-descriptors', 'Fewer descriptors than count, but not none, are refused.', (t) => {
    const irq = t.facts.irqs.find(({ count, index }) => count > 1 && index < 3);
    needs(irq !== undefined, 'no type has two interrupts');
    const peer = t.ready();
    peer.refused('1 descriptor for 2', SET, request.setIrqs({ flags: TRIGGER_FD, index: irq.index, count: 2 }), {
      fds: [t.eventfd().fd],
    });
    t.stillServes(peer);
  }),
  set(
    'more-descriptors',
    'More descriptors than count are refused.',
    refusesSet('2 descriptors for 1', ({ index }) => ({ flags: TRIGGER_FD, index }), 2),
  ),
  set('descriptors-without-the-flag', 'The text does not say what descriptors without DATA_EVENTFD are.', (t) => {
    const { index } = someIrq(t);
    const reply = t.ready().call(SET, request.setIrqs({ flags: TRIGGER, index }), { fds: [t.eventfd().fd] });
    unclear(reply.failed ? 'the request is refused' : 'they are ignored');
  }),
  set('refused-descriptors-are-closed', 'The server closes the descriptors of a request that it refuses.', (t) => {
    const { index, count } = someIrq(t);
    const peer = t.ready();
    t.stillServes(peer);
    const before = t.serverFds(peer);
    for (let i = 0; i < 8; i++) {
      peer.call(SET, request.setIrqs({ flags: TRIGGER_FD, index, start: count }), { fds: [t.eventfd().fd] });
    }
    t.demandFds(peer, before, '8 refused requests with an eventfd');
  }),
];
