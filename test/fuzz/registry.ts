/** Every fuzzer by name. */

import { VFIO_USER_DEVICE_RESET, VFIO_USER_REGION_READ } from '../../src/abi/vfio-user.ts';
import { createEventfd } from '../../src/linux/eventfd.ts';
import { CallIds } from '../../src/vfio-user/client/call-ids.ts';
import { fuzzAsyncClient } from './async-client.ts';
import { fuzzClient } from './client.ts';
import { fuzzDecoder } from './decoder.ts';
import { type Fuzzer, type FuzzResult, type FuzzRun, runFuzzer } from './fuzzer.ts';
import { fuzzImporters } from './importers.ts';
import { fuzzMachineFile } from './machine-file.ts';
import { fuzzServer } from './server.ts';

export const FUZZERS: Record<string, Fuzzer> = {
  decoder: fuzzDecoder,
  server: (run) => fuzzServer(run),
  importers: fuzzImporters,
  client: (run) => fuzzClient(run),
  'async-client': (run) => fuzzAsyncClient(run),
  'machine-file': fuzzMachineFile,
};

/** Servers and clients with one defect each. A fuzzer that misses these finds nothing. */
export const CANARIES: Record<string, Fuzzer> = {
  /** Sometimes loses a descriptor. */
  'canary-descriptor': (run: FuzzRun) =>
    fuzzServer(run, {
      onReply: (reply) => {
        if (reply.command === VFIO_USER_DEVICE_RESET && reply.error === 0) createEventfd('canary');
      },
    }),
  /** Returns some bytes of reads wrong. */
  'canary-answer': (run: FuzzRun) =>
    fuzzServer(run, {
      onReply: ({ command, payload }) => {
        if (command === VFIO_USER_REGION_READ && payload.length > 16 && payload[16] % 8 === 5) payload[16] ^= 1;
      },
    }),
  /** A client that loses a descriptor with each mapping. */
  'canary-client-descriptor': (run) => fuzzClient(run, { onRegionFd: () => void createEventfd('canary') }),
  /** Clients that bring other bytes than the server sent. */
  'canary-client-read': (run) => fuzzClient(run, { onRead: changeSome }),
  'canary-async-read': (run) => fuzzAsyncClient(run, { onRead: changeSome }),
  /** Clients that take late replies for unknown ones. */
  'canary-client-late': (run) => forgettingCalls(() => fuzzClient(run)),
  'canary-async-late': (run) => forgettingCalls(() => fuzzAsyncClient(run)),
  /** An asynchronous client that loses a descriptor with each mapping. */
  'canary-async-descriptor': (run) => fuzzAsyncClient(run, { onRegionFd: () => void createEventfd('canary') }),
};

function changeSome(bytes: Buffer): void {
  if (bytes[0] % 8 === 5) bytes[0] ^= 1;
}

/** Runs `body` with clients that forget a call when it ends. */
async function forgettingCalls(body: () => Promise<void>): Promise<void> {
  const { end } = CallIds.prototype;
  CallIds.prototype.end = function (id) {
    end.call(this, id, false);
  };
  try {
    await body();
  } finally {
    CallIds.prototype.end = end;
  }
}

const SMOKE_MESSAGES = 20_000;
const CANARY_MESSAGES = 20_000;

/** The fuzzers that a name runs, and how many messages if the name decides. */
export function planOf(
  name: string | undefined,
  messages: number,
): { name: string; run: (seed: number) => Promise<FuzzResult> }[] {
  const plan = (fuzzers: Record<string, Fuzzer>, most: number) =>
    Object.entries(fuzzers).map(([each, fuzzer]) => ({
      name: each,
      run: (seed: number) => runFuzzer(fuzzer, Math.min(messages, most), seed),
    }));
  if (name === undefined) return plan(FUZZERS, messages);
  if (name === 'smoke') return plan(FUZZERS, SMOKE_MESSAGES);
  if (name === 'canary') return plan(CANARIES, CANARY_MESSAGES);
  return plan({ [name]: FUZZERS[name] }, messages);
}
