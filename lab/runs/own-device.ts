/** The device of docs/writing-a-device.md, in a guest. */

import { packageFile } from '../../src/linux/package-file.ts';
import { Guest, guestAddress } from '../host/guest.ts';
import { type LabOptions, type LabResult, labRun, Served } from './run.ts';

const PROGRAM = packageFile('dist/examples/checksum.js');
const DONE = 2;

export function ownDevice(options: LabOptions): Promise<LabResult> {
  return labRun(options, async (steps, started) => {
    const served = await steps.take('run examples/checksum.ts', async () => started.add(await Served.program(PROGRAM)));
    const devices = [served.qemuDevice('checksum')];
    const guest = await steps.take('boot the guest', async () =>
      started.add(await Guest.boot({ ...options, devices })),
    );
    const { release } = await guest.call('hello', {});
    const answer = await steps.take('have it read a megabyte', () =>
      guest.call('ownDevice', { address: guestAddress(0) }),
    );
    steps.compare('its ids', '1b36:0c5c', answer.ids);
    steps.compare('its STATUS', DONE, answer.status);
    steps.compare('its CRC-32 of guest memory', answer.wanted, answer.crc32);
    return release;
  });
}
