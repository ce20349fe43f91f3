/** The drivers that the kit brings. */
import type { DeviceDriver } from './driver.ts';
import { eduDriver } from './edu.ts';
import { ioatDriver } from './ioat.ts';
import { libvfioUserServerDriver } from './libvfio-user-server.ts';
import { nvmeDriver } from './nvme.ts';

export const DRIVERS: readonly DeviceDriver[] = [ioatDriver, eduDriver, nvmeDriver, libvfioUserServerDriver];
