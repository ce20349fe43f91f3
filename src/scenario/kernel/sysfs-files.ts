/** Root's writes to the files that the PCI core has for a device in sysfs. */
import { closeSync, constants, existsSync, openSync, readFileSync, readSync, writeSync } from 'node:fs';
import { Errno } from '../../abi/errno.ts';
import { PCI_ERR_UNC_COMP_ABORT, PCI_ERR_UNC_DLP } from '../../abi/pci_regs.ts';
import { pause } from '../../linux/pause.ts';
import { bindToVfioPci, sysfsPath } from '../../linux/sysfs.ts';
import type { StepIn } from '../step.ts';

const { O_NONBLOCK, O_RDONLY, O_WRONLY } = constants;

/** Takes a step on the files of the device at an address. It may wait for as long as a user has the device. */
export function takeSysfsStep(address: string, step: StepIn<'sysfs'>): unknown {
  const folder = sysfsPath(address);
  switch (step.op) {
    case 'sysfs-reset':
      return resetBy(folder, step.method);
    case 'sysfs-reset-subordinate':
      // The link's target lies in the folder of the port.
      return put(`${folder}/../reset_subordinate`, '1');
    case 'sysfs-power-control':
      return put(`${folder}/power/control`, step.control);
    case 'sysfs-d3cold-allowed':
      return put(`${folder}/d3cold_allowed`, step.allowed ? '1' : '0');
    case 'sysfs-unbind':
      return put(`${folder}/driver/unbind`, address);
    case 'sysfs-remove':
      return put(`${folder}/remove`, '1');
    case 'sysfs-rescan':
      return put('/sys/bus/pci/rescan', '1');
    case 'sysfs-bind':
      bindToVfioPci(address);
      return null;
    case 'aer-inject':
      return injectError(address, step.fatal);
    case 'sysfs-numvfs':
      return put(`${folder}/sriov_numvfs`, String(step.count));
    case 'sysfs-config-read': {
      const bytes = Buffer.alloc(step.size);
      withFile(`${folder}/config`, O_RDONLY, (fd) => readSync(fd, bytes, 0, step.size, step.offset));
      return bytes.readUIntLE(0, step.size);
    }
    case 'sysfs-config-write': {
      const bytes = Buffer.alloc(step.size);
      bytes.writeUIntLE(step.value, 0, step.size);
      withFile(`${folder}/config`, O_WRONLY, (fd) => writeSync(fd, bytes, 0, step.size, step.offset));
      return null;
    }
  }
}

function put(path: string, text: string): null {
  withFile(path, O_WRONLY, (fd) => writeSync(fd, text));
  return null;
}

/** sizeof(struct aer_error_inj) of drivers/pci/pcie/aer_inject.c, and its fields. */
const ERROR_SIZE = 32;
const UNCOR_STATUS = 4;
const DOMAIN = 28;
const RECOVERY_MS = 10_000;
const POLL_MS = 5;

/** Returns when the kernel has recovered from the error, as its log says. ENOENT without aer_inject. */
function injectError(address: string, fatal: boolean): null {
  const [domain, bus, device, fn] = address.split(/[:.]/).map((part) => Number.parseInt(part, 16));
  const error = Buffer.alloc(ERROR_SIZE);
  error.set([bus, device, fn]);
  error.writeUInt32LE(fatal ? PCI_ERR_UNC_DLP : PCI_ERR_UNC_COMP_ABORT, UNCOR_STATUS);
  error.writeUInt32LE(domain, DOMAIN);
  withFile('/dev/kmsg', O_RDONLY | O_NONBLOCK, (log) => {
    while (readLog(log) !== null);
    withFile('/dev/aer_inject', O_WRONLY, (fd) => writeSync(fd, error));
    for (let ms = 0; ms < RECOVERY_MS; ms += POLL_MS) {
      for (let line = readLog(log); line !== null; line = readLog(log)) if (line.includes('device recovery')) return;
      pause(POLL_MS);
    }
    throw new Errno('ETIMEDOUT', `the kernel did not recover ${address} within ${RECOVERY_MS / 1000} s`);
  });
  return null;
}

/** The next record of the kernel's log; null if there is none yet. */
function readLog(log: number): string | null {
  const record = Buffer.alloc(8192);
  try {
    return record.toString('utf8', 0, readSync(log, record));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EAGAIN') return null;
    // The log has overwritten the record.
    if (code === 'EPIPE') return '';
    throw error;
  }
}

/** Resets by one method, and then puts the kernel's own list of methods back. */
function resetBy(folder: string, method: string | undefined): null {
  if (method === undefined) return put(`${folder}/reset`, '1');
  put(`${folder}/reset_method`, method);
  try {
    return put(`${folder}/reset`, '1');
  } finally {
    put(`${folder}/reset_method`, 'default');
  }
}

/** Puts devices back under vfio-pci after a scenario that took them away. A virtual function is found by its bus. */
export function bringBack(addresses: ReadonlyMap<string, string>, taken: ReadonlySet<string>): void {
  if (taken.size === 0) return;
  put('/sys/bus/pci/rescan', '1');
  for (const device of taken) {
    const address = addresses.get(device)!;
    bindToVfioPci(address);
    const numvfs = `${sysfsPath(address)}/sriov_numvfs`;
    if (existsSync(numvfs) && readFileSync(numvfs, 'utf8').trim() === '0') put(numvfs, '1');
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
