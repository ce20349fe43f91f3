/** The registration of a device with vfio: while one is held, its driver cannot be unbound. */
import { Completion } from '../task/completion.ts';
import type { Task } from '../task/op.ts';
import { Refcount } from '../task/refcount.ts';

export class Registration {
  readonly refcount = new Refcount('vfio_device.refcount');
  private readonly unregistered = new Completion('vfio_device.comp');

  /** vfio_device_try_get_registration: false once unregistering has dropped the last one. */
  tryGet(): Task<boolean> {
    return this.refcount.tryGet();
  }

  /** vfio_device_put_registration. */
  *put(): Task {
    if (yield* this.refcount.put()) yield* this.unregistered.complete();
  }

  /**
   * vfio_unregister_group_dev: drops the driver's own registration and waits for those of open descriptors and exported
   * buffers. Their put ends the wait: a device's close, or the release of a buffer that the close did not find. If some
   * are left, `request` first asks the user to close the device.
   */
  *unregister(request: () => void): Task {
    yield* this.put();
    if (this.refcount.value > 0) request();
    yield* this.unregistered.wait();
  }
}
