/** The page and the metrics of `barter serve --http`. */
import type { MachineDescription } from '../machine/schema.ts';
import type { Watcher } from '../machine/watcher.ts';
import type { HttpAddress } from './address.ts';
import { Board } from './board.ts';
import { parseControlCommand } from './control-command.ts';
import { Metrics } from './metrics.ts';
import { PageServer } from './page-server.ts';
import { Screens } from './screens.ts';
import { ServeBoard } from './serve-board.ts';

export interface ServedPage {
  readonly url: string;
  close(): void;
}

/** Listens. With `control` the page may pull triggers. Rejects with Node's error where the address cannot be had. */
export async function startServePage(
  address: HttpAddress,
  watcher: Watcher,
  description: MachineDescription,
  control: boolean,
  screens: readonly string[],
): Promise<ServedPage> {
  const board = new Board();
  board.set('kind', control ? 'control' : 'serve');
  board.set('screens', screens);
  const metrics = new Metrics(
    watcher,
    description.devices.map(({ name }) => name),
  );
  let shown: ServeBoard | null = null;
  const page = await PageServer.start({
    address,
    board,
    onViewers: (count) => shown?.watch(count > 0),
    metrics: () => metrics.text(),
    screens: new Screens(screens, (device) => watcher.screen(device)),
    ...(control ? { control: (command: unknown) => watcher.control(parseControlCommand(command)) } : {}),
  });
  shown = new ServeBoard(board, watcher, description, () => page.viewers.send());
  const close = () => {
    shown.close();
    page.close();
  };
  return { url: page.url, close };
}
