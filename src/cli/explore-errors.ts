/** Errors of the explorer that the user caused. */
import { UnknownNameError } from '../explore/catalogue.ts';
import { QueueError } from '../explore/queue/connection.ts';
import { StaleStateError } from '../explore/search/search.ts';
import { NotComparableError } from '../explore/world/state-key.ts';
import { UnloadableFileError } from '../linux/user-module.ts';
import { UsageError } from './usage.ts';

/** Turns errors about names and old files into UsageErrors. */
export async function asUsage<T>(action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    if (error instanceof UnknownNameError || error instanceof UnloadableFileError) throw new UsageError(error.message);
    if (error instanceof QueueError) throw new UsageError(error.message);
    if (error instanceof NotComparableError) throw new UsageError(`no stateful search: ${error.message}`);
    if (error instanceof StaleStateError) throw new UsageError(`${error.message}: the code is not that of the file`);
    throw error;
  }
}
