/** What must not outlive this process, however it ends: processes that it started, folders, half-made stages. */
import { constants } from 'node:os';

const actions = new Set<() => void>();
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/**
 * `action` runs when the process exits or a signal ends it, latest first; it cannot wait. Returns what takes it back.
 */
export function onExit(action: () => void): () => void {
  if (actions.size === 0) watch();
  actions.add(action);
  return () => {
    actions.delete(action);
    if (actions.size === 0) unwatch();
  };
}

function watch(): void {
  process.on('exit', runAll);
  for (const signal of SIGNALS) process.on(signal, end);
}

/** With nothing to do, signals mean again what they mean to any process. */
function unwatch(): void {
  process.off('exit', runAll);
  for (const signal of SIGNALS) process.off(signal, end);
}

/** The status is the one that shells give to a process that the signal ended. */
function end(signal: NodeJS.Signals): void {
  process.exit(128 + constants.signals[signal]);
}

function runAll(): void {
  for (const action of [...actions].reverse()) {
    try {
      action();
    } catch (error) {
      console.error(`barter: ${(error as Error).message}`);
    }
  }
  actions.clear();
}
