/** Repeats steps that a finding printed. */
import { type AsyncStep, runAsyncSteps } from './async-client.ts';
import { type ClientStep, runClientSteps } from './client.ts';
import { Coverage } from './fuzzer.ts';
import { runSteps } from './server.ts';
import { parseStep } from './steps.ts';

/** Runs the steps of a text, one JSON document a line: those of a client, or those of a server. */
export async function replaySteps(text: string): Promise<void> {
  const lines = text.split('\n').filter((line) => line.trim() !== '' && !line.startsWith('#'));
  const steps = lines.map((line) => JSON.parse(line) as { kind: string });
  if (steps[0]?.kind === 'client') runClientSteps(steps as ClientStep[], new Coverage());
  else if (steps[0]?.kind === 'async-client') await runAsyncSteps(steps as AsyncStep[], new Coverage());
  else runSteps(lines.map(parseStep), new Coverage());
}
