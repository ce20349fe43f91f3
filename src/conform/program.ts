/** Programs of others that the kit runs. Each has a process group of its own: npx and shells start another program. */
import { type ChildProcess, spawn } from 'node:child_process';

const KEPT_OUTPUT = 4096;

/** Starts a program. `onText` gets what it prints, piece by piece. */
export function spawnGroup(
  [program, ...args]: readonly string[],
  onText: (text: string, stream: 'stdout' | 'stderr') => void,
): ChildProcess {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], detached: true });
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (text: string) => onText(text, name));
  }
  return child;
}

/** The last part of an output, as much as a report needs. */
export function keptOf(output: string): string {
  return output.slice(-KEPT_OUTPUT);
}

export function killGroup({ pid }: ChildProcess, signal: NodeJS.Signals): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, signal);
  } catch {
    // The group is gone.
  }
}
