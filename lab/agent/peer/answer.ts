/** In the guest: maps each request of the host to the function of the trial that serves it. */
import type { PeerAnswer, PeerRequest } from '../calls.ts';
import { PeerLoad } from './load.ts';
import type { PeerTrial } from './trial.ts';

export function answerPeer(trial: PeerTrial, request: PeerRequest): PeerAnswer {
  switch (request.do) {
    case 'lend':
      trial.begin(request.addresses, request.ranges);
      return trial.addresses();
    case 'map-together':
      return { together: trial.mapTogether(request.ranges) };
    case 'copy':
      return { crc32: trial.copyAll(request.seed) };
    case 'revoke':
      return trial.revoke(request.trigger, request.seed);
    case 'restore':
      trial.restore(request.trigger);
      return trial.addresses();
    case 'load':
      return { load: new PeerLoad(trial, request.seed).run(request.seconds) };
    case 'end':
      trial.end();
      return {};
  }
}
