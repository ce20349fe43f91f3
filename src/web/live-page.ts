/** The page of a command that runs for a while: a demo, a search, a run of the lab. */
import type { HttpAddress } from './address.ts';
import { Board } from './board.ts';
import type { PageFile } from './page-files.ts';
import { PageServer } from './page-server.ts';

const SEND_MS = 250;

/** What the command is, and how it ended. */
export interface LiveRun {
  readonly title: string;
  /** Null while it runs. */
  readonly ok: boolean | null;
  /** One sentence about the result, or about what it waits for. */
  readonly says: string;
}

export class LivePage {
  readonly board: Board;
  readonly url: string;
  private readonly server: PageServer;
  private readonly more: Map<string, PageFile>;
  private readonly timer: NodeJS.Timeout;

  private constructor(server: PageServer, board: Board, more: Map<string, PageFile>) {
    this.server = server;
    this.board = board;
    this.more = more;
    this.url = server.url;
    this.timer = setInterval(() => this.send(), SEND_MS);
  }

  /** Listens. `onViewers` hears how many pages look. Rejects with Node's error where the address cannot be had. */
  static async start(address: HttpAddress, onViewers: (count: number) => void = () => {}): Promise<LivePage> {
    const board = new Board();
    const more = new Map<string, PageFile>();
    return new LivePage(await PageServer.start({ address, board, more, onViewers }), board, more);
  }

  /** Serves one more file. */
  add(path: string, file: PageFile): void {
    this.more.set(path, file);
  }

  run(run: LiveRun): void {
    this.board.set('run', run);
    this.send();
  }

  /** Sends the changes now, for a command that is about to block its thread. */
  send(): void {
    this.server.viewers.send();
  }

  close(): void {
    clearInterval(this.timer);
    this.send();
    this.server.close();
  }
}
