/** The option --http: where a command's page listens. */
import { once } from 'node:events';
import type { Command } from 'commander';
import { END_SIGNALS } from '../linux/end-signals.ts';
import { type HttpAddress, parseHttpAddress } from '../web/address.ts';
import type { LivePage } from '../web/live-page.ts';
import { UsageError } from './usage.ts';

/** Adds --http to a command. `shows` says what its page shows. */
export function addHttpOption(command: Command, shows: string): Command {
  return command.option('--http <[host:]port>', `${shows}; on 127.0.0.1 unless a host is named`);
}

/** Null without the option. */
export function httpAddress(http: string | undefined): HttpAddress | null {
  if (http === undefined) return null;
  const address = parseHttpAddress(http);
  if (address === null) throw new UsageError(`--http ${http}: [HOST:]PORT is needed, such as 8080 or 127.0.0.1:8080`);
  return address;
}

/** Starts what listens at `address`. UsageError where the address cannot be had. */
export async function listenAt<T>({ host, port }: HttpAddress, start: () => Promise<T>): Promise<T> {
  try {
    return await start();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new UsageError(`--http ${host}:${port}: ${code ?? (error as Error).message}; choose another`);
  }
}

/** A command's page. Tells its address on stderr, so that stdout stays the command's own. Null without the option. */
export async function openPage(
  http: string | undefined,
  onViewers?: (count: number) => void,
): Promise<LivePage | null> {
  const address = httpAddress(http);
  if (address === null) return null;
  const { LivePage } = await import('../web/live-page.ts');
  const page = await listenAt(address, () => LivePage.start(address, onViewers));
  console.error(`barter: live at ${page.url}`);
  return page;
}

/** Keeps the page of a command that has ended, until a signal. */
export async function keepPage(page: LivePage | null): Promise<void> {
  if (page === null) return;
  page.send();
  console.error(`barter: the page stays at ${page.url}; Ctrl-C ends it`);
  const ended = new AbortController();
  await Promise.race(END_SIGNALS.map((signal) => once(process, signal, { signal: ended.signal })));
  ended.abort();
  page.close();
}
