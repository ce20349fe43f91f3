/**
 * Load on peer-to-peer DMA in a guest: ioatdma copies pieces of random sizes into a lent BAR, and the lender takes it
 * back at random moments. Every byte must be right, and none may arrive after a revoke has returned.
 */
import type { PeerAnswer } from '../../agent/calls.ts';
import { type LabOptions, type LabResult, labRun } from '../run.ts';
import { PeerGuest } from './peer-to-peer.ts';
import { lateWrites } from './trace.ts';

const MIB = 2 ** 20;
const RANGES: [number, number][] = [
  [16 * MIB, 2 * MIB],
  [MIB, 2 * MIB],
];
const USUAL_SECONDS = 60;

export function peerLoad(options: LabOptions): Promise<LabResult> {
  return labRun(options, async (steps, started) => {
    const peers = await PeerGuest.start(steps, started, options, RANGES);
    const seed = options.seed ?? Date.now() % 2 ** 31;
    const seconds = options.seconds ?? USUAL_SECONDS;
    try {
      const { load } = await steps.take(
        `copies of 4 KiB to 1 MiB, and revokes, for ${seconds} s (seed ${seed})`,
        () => peers.call({ do: 'load', seed, seconds }, 1000 * seconds + 60_000),
        (answer: PeerAnswer) => answer.load,
      );
      steps.compare('what was wrong after the copies', [], load!.wrong);
      steps.compare('copies were caught in their midst', true, load!.inFlight > 0);
      const events = peers.served.events.filter(({ device }) => device === 'borrower');
      const none = { whileOff: 0, afterRestore: 0 };
      steps.compare('writes that reached the BAR after a revoke had returned', none, lateWrites(events));
      await peers.call({ do: 'end' });
    } finally {
      peers.close();
    }
    return peers.release;
  });
}
