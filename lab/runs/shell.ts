/** Runs the user's commands, one after the other, in a guest that has the served devices. */

import { packageFile } from '../../src/linux/package-file.ts';
import { Guest, guestAddress } from '../host/guest.ts';
import type { Accel } from '../host/machine.ts';
import type { LabKernel } from '../kernel/kernel.ts';
import type { KernelReport } from '../kernel/reports.ts';
import { Served, Started } from './run.ts';

const MACHINE = packageFile('examples/two-peers.yaml');
/** A command may take a whole day. */
const COMMAND_TIMEOUT_MS = 24 * 3600 * 1000;

export interface ShellOutput {
  status: number | null;
  stdout: string;
  stderr: string;
}

/**
 * Boots, binds the lender to vfio-pci, and lets `body` run commands in the guest's shell. The guest can read the
 * machine's own files. Returns the kernel's reports.
 */
export async function labShell(
  kernel: LabKernel,
  accel: Accel,
  body: (run: (command: string) => Promise<ShellOutput>) => Promise<void>,
): Promise<readonly KernelReport[]> {
  const started = new Started();
  try {
    const served = started.add(await Served.start(MACHINE));
    const devices = [served.qemuDevice('lender'), served.qemuDevice('borrower')];
    const guest = started.add(await Guest.boot({ devices, kernel, accel }));
    await guest.call('bind', { addresses: [guestAddress(0)] });
    await body((command) => guest.call('shell', { command }, COMMAND_TIMEOUT_MS));
  } finally {
    await started.stopAll();
  }
  return started.reports;
}
