/** Every fuzzer by name. */
import { createEventfd } from '../../src/linux/eventfd.ts';
import { fuzzDecoder } from './decoder.ts';
import { type Coverage, type Fuzzer, type FuzzRun, runFuzzer } from './fuzzer.ts';
import { fuzzImporters } from './importers.ts';
import { fuzzMachineFile } from './machine-file.ts';
import { fuzzServer } from './server.ts';

/** A server that loses a descriptor with one client in a hundred: who does not find this finds nothing. */
function canary(run: FuzzRun): void {
  fuzzServer(run, () => {
    if (run.random.chance(5)) createEventfd('canary');
  });
}

const SMOKE_MESSAGES = 20_000;

export const FUZZERS: Record<string, Fuzzer> = {
  decoder: fuzzDecoder,
  server: (run) => fuzzServer(run),
  importers: fuzzImporters,
  'machine-file': fuzzMachineFile,
};

export const CANARY: Fuzzer = canary;
/** `smoke` is all of them, shortly; `canary` must fail. */
export function fuzz(name: string, messages: number, seed: number): Coverage[] {
  if (name === 'smoke') return Object.values(FUZZERS).map((fuzzer) => runFuzzer(fuzzer, SMOKE_MESSAGES, seed));
  return [runFuzzer(name === 'canary' ? CANARY : FUZZERS[name], messages, seed)];
}
