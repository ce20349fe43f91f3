/** DEVICE_GET_INFO, DEVICE_GET_IRQ_INFO and DEVICE_RESET on the client's side. */
import { vfio_irq_info } from '../../abi/vfio.ts';
import {
  VFIO_USER_DEVICE_GET_INFO,
  VFIO_USER_DEVICE_GET_IRQ_INFO,
  VFIO_USER_DEVICE_RESET,
  vfio_user_device_info,
} from '../../abi/vfio-user.ts';
import { ask, type Exchange, replyOf } from './exchange.ts';

/** The reply to DEVICE_GET_INFO (struct vfio_device_info). */
export interface ClientDeviceInfo {
  /** VFIO_DEVICE_FLAGS_*. */
  flags: number;
  /** How many region indices there are; some may be empty. */
  numRegions: number;
  /** How many interrupt indices there are; some may be empty. */
  numIrqs: number;
}

/** The reply to DEVICE_GET_IRQ_INFO (struct vfio_irq_info). */
export interface ClientIrqInfo {
  /** VFIO_IRQ_INFO_*. */
  flags: number;
  /** The interrupts of the index; 0 where the device has none. */
  count: number;
}

/** DEVICE_GET_INFO. */
export function* deviceInfo(): Exchange<ClientDeviceInfo> {
  const argsz = vfio_user_device_info.sizeof;
  const payload = yield* ask(VFIO_USER_DEVICE_GET_INFO, vfio_user_device_info.encode({ argsz }));
  const { flags, num_regions, num_irqs } = vfio_user_device_info.read(replyOf(payload, vfio_user_device_info));
  return { flags, numRegions: num_regions, numIrqs: num_irqs };
}

/** DEVICE_GET_IRQ_INFO of VFIO_PCI_..._IRQ_INDEX. */
export function* irqInfo(index: number): Exchange<ClientIrqInfo> {
  const argsz = vfio_irq_info.sizeof;
  const payload = yield* ask(VFIO_USER_DEVICE_GET_IRQ_INFO, vfio_irq_info.encode({ argsz, index }));
  const { flags, count } = vfio_irq_info.read(replyOf(payload, vfio_irq_info));
  return { flags, count };
}

/** DEVICE_RESET. */
export function* resetDevice(): Exchange<void> {
  yield* ask(VFIO_USER_DEVICE_RESET, new Uint8Array(0));
}
