/**
 * Every capability that Linux's vfio shows or hides. A guest's vfio-pci reads and writes each byte of it, and the
 * engine must answer the same accesses alike over the same registers. The devices' server edits nothing in config
 * space. Writes through the guest's sysfs show which bits QEMU keeps for itself.
 */
import { packageFile } from '../../src/linux/package-file.ts';
import { accessesOf, layOut } from '../capabilities/accesses.ts';
import { compareDevice } from '../capabilities/compare.ts';
import { CAPABILITY_DEVICES } from '../capabilities/devices.ts';
import { Guest, guestAddress } from '../host/guest.ts';
import { type LabOptions, type LabResult, labRun, Served } from './run.ts';

const PROGRAM = packageFile('dist/lab/capabilities/serve.js');

export function capabilities(options: LabOptions): Promise<LabResult> {
  return labRun(options, async (steps, started) => {
    const devices: string[] = [];
    for (const { name } of CAPABILITY_DEVICES) {
      const served = await steps.take(`serve the device '${name}'`, async () =>
        started.add(await Served.program(PROGRAM, name)),
      );
      devices.push(served.qemuDevice(name));
    }
    const guest = await steps.take('boot the guest', async () =>
      started.add(await Guest.boot({ ...options, devices })),
    );
    const { release } = await guest.call('hello', {});
    for (const [i, spec] of CAPABILITY_DEVICES.entries()) {
      const laid = layOut(spec);
      const accesses = accessesOf(laid.capabilities, laid.config.sizeBytes);
      const answered = await steps.take(`'${spec.name}': ${accesses.length} accesses in the guest`, () =>
        guest.call('configAccesses', { address: guestAddress(i), skip: laid.skip, accesses }),
      );
      compareDevice(steps, laid, accesses, answered);
    }
    return release;
  });
}
