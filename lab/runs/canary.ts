/**
 * Does in a debug kernel what its detectors must report (lab/importer/barter_canary.c). Every step succeeds, but the
 * run fails, as any run must in which the kernel complains.
 */
import { CommandError } from '../host/command.ts';
import { Guest } from '../host/guest.ts';
import { type LabOptions, type LabResult, labRun } from './run.ts';

const CANARY = '/sys/kernel/debug/barter-canary';
/** In this order, since lockdep reports nothing after KASAN has reported. */
const SONGS = ['inversion', 'leak', 'hang', 'use-after-free'];

export function canary(options: LabOptions): Promise<LabResult> {
  if (options.kernel.base !== 'debug') throw new CommandError('only one kernel would notice: --kernel debug');
  return labRun(options, async (steps, started) => {
    const guest = await steps.take('boot the guest', async () =>
      started.add(await Guest.boot({ ...options, devices: [] })),
    );
    const { release } = await guest.call('hello', {});
    for (const song of SONGS) {
      const { status } = await steps.take(song, () => guest.call('shell', { command: `echo ${song} > ${CANARY}` }));
      steps.compare(`the status of ${song}`, 0, status);
    }
    return release;
  });
}
