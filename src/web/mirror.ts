/** Shows on a board what the page of another process shows. */
import { get } from 'node:http';
import type { Board } from './board.ts';

/** Items of each list that the board keeps. */
const KEPT = 1000;
/** Topics that say what a page is. The board's own page says that itself. */
const OWN = ['kind'];

/** Follows the page at `url` until its server ends. Rejects with Node's error where there is none. */
export async function mirror(url: string, board: Board): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const request = get(`${url}events`, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part: string) => {
        const frames = (text + part).split('\n\n');
        text = frames.pop()!;
        for (const frame of frames) take(frame, board);
      });
      response.once('close', () => resolve());
      response.on('error', () => {});
    });
    request.once('error', reject);
  });
}

function take(frame: string, board: Board): void {
  const [, name, data] = /^event: (\w+)\ndata: (.*)$/s.exec(frame) ?? [];
  if (name !== 'whole' && name !== 'update') return;
  const { set, add } = JSON.parse(data) as { set: Record<string, unknown>; add: Record<string, unknown[]> };
  for (const [topic, value] of Object.entries(set)) if (!OWN.includes(topic)) board.set(topic, value);
  for (const [topic, items] of Object.entries(add)) board.add(topic, items, KEPT);
}
