/** Users' programs, as docs/exploring-your-own-code.md describes them, on its own example. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { hasty, request } from '../../examples/explore/request.ts';
import { explore, exploreProgram, show, textTimeline } from '../../src/index.ts';
import { barter } from '../cli/barter.ts';

const path = (name: string): string => fileURLToPath(new URL(`../../${name}`, import.meta.url));
const FILE = path('examples/explore/request.ts');

test('the example holds in all of its orders, by one thread and by two', async () => {
  for (const workers of [1, 2]) {
    const { executions, complete, bug } = await explore({ scenario: `${FILE}:request`, workers });
    assert.deepEqual({ executions, complete, bug }, { executions: 3, complete: true, bug: null });
  }
  assert.equal((await exploreProgram(request)).executions, 3);
});

test('its mistake is found, and shown with the lines of the example', async () => {
  const { bug } = await exploreProgram(hasty);
  assert.equal(bug?.invariant, 'I5');
  const text = textTimeline(show(hasty, bug!.steps));
  assert.match(text, /use after free: server uses buffer \(examples\/explore\/request\.ts:\d+\) and client frees it/);
  assert.match(text, /timer/);
});

test('the command explores it, and replays what it found', () => {
  const folder = mkdtempSync(join(tmpdir(), 'barter-own-'));
  const replayFile = join(folder, 'found.json');
  try {
    assert.equal(barter('explore', 'examples/explore/request.ts:request').status, 0);
    assert.equal(barter('explore', 'examples/explore/request.ts:hasty', '--replay-file', replayFile).status, 1);
    const again = barter('replay', replayFile);
    assert.match(again.stdout, /use after free/);
    assert.doesNotMatch(again.stdout, /not the run of the file/);
    const which = barter('explore', 'examples/explore/request.ts');
    assert.deepEqual([which.status, /say which: .*request\.ts:hasty, .*:request/.test(which.stderr)], [2, true]);
    const other = join(folder, 'other.mjs');
    writeFileSync(other, 'export const nothing = 1;\n');
    assert.match(barter('explore', other).stderr, /exports no program/);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('the page quotes the example as it is', () => {
  const code = /```ts\n(import [^\n]*\n)([\s\S]*?)```/.exec(
    readFileSync(path('docs/exploring-your-own-code.md'), 'utf8'),
  )!;
  const example = readFileSync(FILE, 'utf8');
  assert.ok(example.includes(code[2]), 'the class');
  assert.ok(example.includes(code[1]), 'the import');
});
