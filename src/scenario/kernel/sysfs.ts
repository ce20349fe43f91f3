/** Steps of root on a device's files in sysfs, on a real kernel. */
import { closeSync, constants, openSync, readSync, writeSync } from 'node:fs';
import { Errno } from '../../abi/errno.ts';
import { sysfsPath } from '../../linux/sysfs.ts';
import type { StepIn } from '../step.ts';
import type { LinuxWorld } from './world.ts';

const { O_RDONLY, O_WRONLY } = constants;

export function sysfsStep(world: LinuxWorld, step: StepIn<'sysfs'>): unknown {
  const address = world.address(step.device);
  switch (step.op) {
    case 'sysfs-reset':
      withFile(`${sysfsPath(address)}/reset`, O_WRONLY, (fd) => writeSync(fd, '1'));
      return null;
    case 'sysfs-reset-subordinate':
      // The link's target lies in the folder of the port.
      withFile(`${sysfsPath(address)}/../reset_subordinate`, O_WRONLY, (fd) => writeSync(fd, '1'));
      return null;
    case 'sysfs-config-read': {
      const bytes = Buffer.alloc(step.size);
      withFile(`${sysfsPath(address)}/config`, O_RDONLY, (fd) => readSync(fd, bytes, 0, step.size, step.offset));
      return bytes.readUIntLE(0, step.size);
    }
    case 'sysfs-config-write': {
      const bytes = Buffer.alloc(step.size);
      bytes.writeUIntLE(step.value, 0, step.size);
      withFile(`${sysfsPath(address)}/config`, O_WRONLY, (fd) => writeSync(fd, bytes, 0, step.size, step.offset));
      return null;
    }
  }
}

/** Opens a file for `body`. Refusals of the system calls are Errno. */
function withFile(path: string, flags: number, body: (fd: number) => void): void {
  try {
    const fd = openSync(path, flags);
    try {
      body(fd);
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    throw Errno.of(error) ?? error;
  }
}
