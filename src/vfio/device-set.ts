/** Devices that can only be reset together (vfio_device_set): one slot, or one bus. */
import { type LockClass, Mutex } from '../task/lock.ts';

const DEVICE_SET_LOCK_CLASS: LockClass = { name: 'vfio_device_set.lock' };

export class DeviceSet<Member> {
  /** Guards the open counts of the set; held through open, close and hot reset. Outside every memory_lock. */
  readonly lock = new Mutex(DEVICE_SET_LOCK_CLASS);
  readonly devices: Member[] = [];
}
