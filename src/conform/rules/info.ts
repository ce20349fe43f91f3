/** DEVICE_GET_INFO. */
import {
  VFIO_DEVICE_FLAGS_PCI,
  VFIO_DEVICE_FLAGS_RESET,
  VFIO_PCI_NUM_IRQS,
  VFIO_PCI_NUM_REGIONS,
} from '../../abi/vfio.ts';
import { VFIO_USER_DEVICE_GET_INFO, vfio_user_device_info } from '../../abi/vfio-user.ts';
import { NO_REPLY } from '../peer.ts';
import * as request from '../requests.ts';
import { refusalsOf, rulesOf } from '../rule.ts';
import { demand, unclear } from '../verdict.ts';

const rule = rulesOf('info', 'VFIO_USER_DEVICE_GET_INFO');
const INFO = VFIO_USER_DEVICE_GET_INFO;
const SIZE = vfio_user_device_info.sizeof;

const refusesArgsz = (argsz: number) => refusalsOf(INFO)(`argsz ${argsz}`, request.deviceInfo(argsz));

export const INFO_RULES = [
  rule('argsz-of-reply', 'argsz of the reply is the size of the full reply payload, 16 bytes.', (t) => {
    const { view } = t.ready().ok(INFO, request.deviceInfo());
    demand(view.getUint32(0, true) === SIZE, `argsz is ${view.getUint32(0, true)}`);
  }),
  rule('size-of-reply', 'The reply payload has the size that its argsz names.', (t) => {
    const { payload, view } = t.ready().ok(INFO, request.deviceInfo());
    demand(payload.length === view.getUint32(0, true), `${payload.length} bytes, and argsz ${view.getUint32(0, true)}`);
  }),
  rule('room-is-kept', 'The reply payload is at most as long as the argsz of the request.', (t) => {
    const { payload } = t.ready().ok(INFO, request.deviceInfo());
    demand(payload.length <= SIZE, `${payload.length} bytes for argsz ${SIZE}`);
  }),
  rule('more-room', 'A client may offer more room than the reply needs.', (t) => {
    const { payload } = t.ready().ok(INFO, request.deviceInfo(4096));
    demand(payload.length >= SIZE, `${payload.length} bytes came`);
  }),
  rule('argsz-0', 'A client without room for the struct is refused: argsz 0.', refusesArgsz(0)),
  rule('argsz-8', 'A client without room for the struct is refused: argsz 8.', refusesArgsz(8)),
  rule('argsz-largest', 'A client that offers 4 GiB of room is answered: the reply is as long as it is.', (t) => {
    const peer = t.ready();
    const { payload } = peer.call(INFO, request.deviceInfo(0xffff_ffff));
    demand(payload.length <= 4096, `${payload.length} bytes came`);
    t.stillServes(peer);
  }),
  rule('is-pci', 'The device is a PCI device; the protocol knows no other.', (t) => {
    demand((t.facts.flags & VFIO_DEVICE_FLAGS_PCI) !== 0, `the flags are 0x${t.facts.flags.toString(16)}`);
  }),
  rule('known-flags', 'Only the flags RESET and PCI are defined.', (t) => {
    const unknown = t.facts.flags & ~(VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET);
    demand(unknown === 0, `the flags are 0x${t.facts.flags.toString(16)}`);
  }),
  rule(
    'regions',
    'A PCI device has the nine regions of linux/vfio.h at least.',
    (t) => {
      demand(t.facts.numRegions >= VFIO_PCI_NUM_REGIONS, `num_regions is ${t.facts.numRegions}`);
    },
    'linux/vfio.h, VFIO_PCI_NUM_REGIONS',
  ),
  rule(
    'irqs',
    'A PCI device has the five interrupt types of linux/vfio.h at least.',
    (t) => {
      demand(t.facts.numIrqs >= VFIO_PCI_NUM_IRQS, `num_irqs is ${t.facts.numIrqs}`);
    },
    'linux/vfio.h, VFIO_PCI_NUM_IRQS',
  ),
  rule('counts-are-sane', 'The counts are those of a device that a client can ask for one by one.', (t) => {
    demand(
      t.facts.numRegions < 65536 && t.facts.numIrqs < 65536,
      `${t.facts.numRegions} regions, ${t.facts.numIrqs} irqs`,
    );
  }),
  rule('asked-twice', 'The same question has the same answer.', (t) => {
    const peer = t.ready();
    const [first, second] = [0, 1].map(() => peer.ok(INFO, request.deviceInfo()).payload);
    demand(first.equals(second), `${first.toString('hex')}, then ${second.toString('hex')}`);
  }),
  rule(
    'other-fields',
    'The other fields of a request must be zero; the text does not say what a server does otherwise.',
    (t) => {
      const payload = vfio_user_device_info.encode({ argsz: SIZE, flags: 0xff, num_regions: 77, num_irqs: 88 });
      unclear(t.ready().call(INFO, payload).failed ? 'the request is refused' : 'the fields are ignored');
    },
  ),
  rule('posted', 'A query with the No_reply bit gets no reply, and does no harm.', (t) => {
    const peer = t.ready();
    peer.command(INFO, request.deviceInfo(), { flags: NO_REPLY });
    t.stillServes(peer);
  }),
];
