/** barter explore --queue: asks the workers of a queue for a search. */
import { type ExploreOptions, type ExploreResult, specOf } from '../explore/explore.ts';
import { connectQueue, shownUrl } from '../explore/queue/connection.ts';
import { exploreOverQueue, LeftRunningError } from '../explore/queue/queue-search.ts';
import { catalogue } from '../verify/catalogue.ts';

/** Waits for the result of the workers. Ctrl-C ends the waiting alone, and the process. */
export async function exploreByQueue(url: string, options: ExploreOptions): Promise<ExploreResult> {
  const connection = await connectQueue(url);
  const { signal, onProgress } = options;
  try {
    return await exploreOverQueue({
      connection,
      spec: specOf(options),
      catalogue,
      onNote: (text) => console.error(`barter: ${text}`),
      ...(signal === undefined ? {} : { signal }),
      ...(onProgress === undefined ? {} : { onProgress }),
    });
  } catch (error) {
    if (!(error instanceof LeftRunningError)) throw error;
    console.error('The workers go on. The same command waits for them again; barter queue drop ends the search:');
    console.error(`  barter queue drop ${error.message} --queue '${shownUrl(url)}'`);
    process.exit(130);
  } finally {
    await connection.close();
  }
}
