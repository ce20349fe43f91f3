/** Repeats steps that a finding printed. */
import { type ClientStep, runClientSteps } from './client.ts';
import { Coverage } from './fuzzer.ts';
import { runSteps } from './server.ts';
import { parseStep } from './steps.ts';

/** Runs the steps of a text, one JSON document a line: those of a client, or those of a server. */
export function replaySteps(text: string): void {
  const lines = text.split('\n').filter((line) => line.trim() !== '' && !line.startsWith('#'));
  const isClient = lines.length > 0 && (JSON.parse(lines[0]) as { kind: string }).kind === 'client';
  if (isClient)
    runClientSteps(
      lines.map((line) => JSON.parse(line) as ClientStep),
      new Coverage(),
    );
  else runSteps(lines.map(parseStep), new Coverage());
}
