/** Operations of the async API: each is a step of the scenario language, taken on the machine's backend. */
import { Errno, type ErrnoName } from '../../abi/errno.ts';
import type { Backend } from '../../scenario/backend.ts';
import type { Step, StepResult } from '../../scenario/step.ts';
import { Runner } from '../../task/runner.ts';
import type { TaskHandle } from '../../task/task-handle.ts';

interface PendingOperation {
  handle: TaskHandle<StepResult>;
  settle(): void;
}

/** An object that must be closed before the machine; `describe` names it in the warning if it was not. */
export interface Open {
  describe(): string;
}

/**
 * Takes steps. On the engine, a step may have to wait (a revoke whose importer keeps its mapping). Its promise stays
 * pending until a later operation lets it go on. On served and real devices a step is a blocking system call.
 */
export class Operations {
  private readonly backend: Backend;
  private readonly runner = new Runner();
  private readonly pending = new Set<PendingOperation>();
  private readonly opened = new Set<Open>();
  private readonly watchers = new Set<() => void>();
  private names = 0;

  constructor(backend: Backend) {
    this.backend = backend;
    // A failure rejects the promise of its operation.
    this.runner.onFailure = () => {};
  }

  /** A new name for the object that a step makes. */
  newName(kind: string): string {
    this.names += 1;
    return `${kind}-${this.names}`;
  }

  /** Takes a step. Rejects with the Errno of a refusal. */
  perform(step: Step): Promise<unknown> {
    const handle = this.runner.spawn(step.op, this.backend.perform(step));
    return new Promise((resolve, reject) => {
      const settle = () => {
        if (handle.state === 'failed') reject(handle.error);
        else if (handle.result !== undefined && 'ok' in handle.result) resolve(handle.result.ok);
        else reject(refusal(step, handle.result as Extract<StepResult, { errno: string }>));
      };
      this.pending.add({ handle, settle });
      this.advance();
    });
  }

  /** As `perform`, for a step that ends at once: it does not wait, and does not call watchers. */
  performNow(step: Step): unknown {
    const result = this.runner.run(this.backend.perform(step), step.op);
    if ('ok' in result) return result.ok;
    throw refusal(step, result);
  }

  /** Calls `look` after every operation. Returns a function that ends the watch. */
  watch(look: () => void): () => void {
    this.watchers.add(look);
    return () => this.watchers.delete(look);
  }

  track(open: Open): void {
    this.opened.add(open);
  }

  forget(open: Open): void {
    this.opened.delete(open);
  }

  /** Releases everything. Warns (process 'warning', BarterWarning) of objects that were not closed. */
  async dispose(): Promise<void> {
    if (this.opened.size > 0) {
      const list = [...this.opened].map((open) => open.describe()).join(', ');
      process.emitWarning(`closed with the machine, and not before it: ${list}`, 'BarterWarning');
    }
    this.opened.clear();
    this.watchers.clear();
    const disposal = this.runner.spawn('dispose', this.backend.dispose());
    this.advance();
    if (disposal.state === 'failed') throw disposal.error;
  }

  private advance(): void {
    this.runner.drain();
    for (const operation of this.pending) {
      if (!operation.handle.ended) continue;
      this.pending.delete(operation);
      operation.settle();
    }
    for (const look of [...this.watchers]) look();
  }
}

function refusal(step: Step, { errno, message }: Extract<StepResult, { errno: string }>): Error {
  const why = message.replace(`${errno}: `, '');
  // SIGBUS is not an errno: it is the signal for an access through a mapping of memory that does not decode.
  return errno === 'SIGBUS' ? new Error(message) : new Errno(errno as ErrnoName, `${step.op}: ${why}`);
}
