/** DEVICE_SET_IRQS on the client's side. */
import { vfio_irq_set } from '../../abi/vfio.ts';
import { VFIO_USER_DEVICE_SET_IRQS } from '../../abi/vfio-user.ts';
import type { Exchange, Peer } from './exchange.ts';

/** struct vfio_irq_set, with its data. */
export interface IrqSet {
  /** VFIO_IRQ_SET_*: one kind of data and one action. */
  flags: number;
  /** VFIO_PCI_..._IRQ_INDEX. */
  index: number;
  start: number;
  count: number;
  data?: Uint8Array | undefined;
  /** Travel as descriptors, and stay the caller's. */
  eventfds?: readonly number[] | undefined;
}

/**
 * Sends SET_IRQS. Where the eventfds are too many for one message, the first message enables all interrupts, because
 * MSI does not grow. Further messages carry the remaining eventfds.
 */
export function* setIrqs(peer: Peer, set: IrqSet): Exchange<void> {
  const { start, count, eventfds = [] } = set;
  const most = peer.capabilities.maxMsgFds;
  if (eventfds.length <= most || eventfds.length !== count || most === 0) {
    yield* setOnce(set);
    return;
  }
  yield* setOnce({ ...set, eventfds: [] });
  for (let at = 0; at < count; at += most) {
    const part = eventfds.slice(at, at + most);
    yield* setOnce({ ...set, start: start + at, count: part.length, eventfds: part });
  }
}

function* setOnce({ flags, index, start, count, data = NOTHING, eventfds = [] }: IrqSet): Exchange<void> {
  const argsz = vfio_irq_set.sizeof + data.length;
  const payload = vfio_irq_set.encode({ argsz, flags, index, start, count }, data.length);
  payload.set(data, vfio_irq_set.sizeof);
  yield { command: VFIO_USER_DEVICE_SET_IRQS, payload, fds: eventfds };
}

const NOTHING = new Uint8Array(0);
