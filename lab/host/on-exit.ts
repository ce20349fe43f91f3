/** Cleans up when this process ends, however it ends: processes that it started, folders, half-made stages. */
import { constants } from 'node:os';
import { END_SIGNALS } from '../../src/linux/end-signals.ts';

const actions = new Set<() => void>();

/**
 * Runs `action` when the process exits or a signal ends it, latest first. It must not wait. Returns a function that
 * cancels it.
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
  for (const signal of END_SIGNALS) process.on(signal, end);
}

/** Restores the default meaning of signals once no action is left. */
function unwatch(): void {
  process.off('exit', runAll);
  for (const signal of END_SIGNALS) process.off(signal, end);
}

/** Exits with the status that shells report for a process killed by this signal. */
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
