import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import type { ServerResponse } from 'node:http';
import { test } from 'node:test';
import { Board } from '../../src/web/board.ts';
import { Viewers } from '../../src/web/viewers.ts';

/** A stream that keeps what it gets. */
class Stream extends EventEmitter {
  readonly writableLength = 0;
  text = '';

  writeHead(): void {}

  write(part: string): void {
    this.text += part;
  }

  items(topic: string): unknown[] {
    const frames = [...this.text.matchAll(/^data: (\{.*\})$/gm)].map(([, data]) => JSON.parse(data));
    return frames.flatMap(({ add }) => add[topic] ?? []);
  }
}

test('a viewer that comes between an item and its tick gets the item once, and those before it too', () => {
  const board = new Board();
  const viewers = new Viewers(board, () => {});
  const [early, late] = [new Stream(), new Stream()];
  viewers.add(early as unknown as ServerResponse);
  board.add('console', ['a line'], 10);
  viewers.add(late as unknown as ServerResponse);
  viewers.send();
  board.add('console', ['another'], 10);
  viewers.send();
  assert.deepEqual(early.items('console'), ['a line', 'another']);
  assert.deepEqual(late.items('console'), ['a line', 'another']);
});
