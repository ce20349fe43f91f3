/** The open streams of server-sent events. A viewer that does not read misses frames, and delays nobody. */
import type { ServerResponse } from 'node:http';
import type { Board } from './board.ts';

/** Streams at a time; a browser's hidden tabs close theirs. */
export const MAX_VIEWERS = 200;
/** Bytes that may wait for one viewer. */
const MAX_WAITING_BYTES = 1 << 20;
/** A viewer that takes nothing for so long is cut off. */
const STALLED_MS = 30_000;

interface Viewer {
  readonly response: ServerResponse;
  /** Frames that it did not get since it was last up to date. */
  missed: number;
  /** When it began to miss frames, by performance.now(). */
  behindSinceMs: number;
}

export class Viewers {
  private readonly board: Board;
  private readonly viewers = new Set<Viewer>();
  private readonly onCount: (count: number) => void;

  /** `onCount` hears how many viewers there are, after each change. */
  constructor(board: Board, onCount: (count: number) => void) {
    this.board = board;
    this.onCount = onCount;
  }

  get size(): number {
    return this.viewers.size;
  }

  /** Adds a stream. False, with nothing done, where there are too many. */
  add(response: ServerResponse): boolean {
    if (this.viewers.size >= MAX_VIEWERS) return false;
    // The new viewer gets everything, and must not get the latest changes again.
    this.send();
    const viewer: Viewer = { response, missed: 0, behindSinceMs: 0 };
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
    response.write(this.board.whole());
    this.viewers.add(viewer);
    response.on('close', () => this.remove(viewer));
    response.on('error', () => this.remove(viewer));
    this.onCount(this.viewers.size);
    return true;
  }

  /** Sends the board's changes. A viewer that fell behind gets everything when it has caught up. */
  send(): void {
    const changes = this.board.takeChanges();
    let whole: string | null = null;
    for (const viewer of this.viewers) {
      const { response } = viewer;
      if (response.writableLength > MAX_WAITING_BYTES) {
        if (viewer.missed === 0) viewer.behindSinceMs = performance.now();
        viewer.missed += 1;
        if (performance.now() - viewer.behindSinceMs > STALLED_MS) response.destroy();
      } else if (viewer.missed > 0) {
        if (response.writableLength > 0) continue;
        whole ??= this.board.whole();
        response.write(`event: missed\ndata: ${viewer.missed}\n\n`);
        response.write(whole);
        viewer.missed = 0;
      } else if (changes !== null) response.write(changes);
    }
  }

  close(): void {
    for (const { response } of this.viewers) response.end();
  }

  private remove(viewer: Viewer): void {
    if (this.viewers.delete(viewer)) this.onCount(this.viewers.size);
  }
}
