/** The guides quote their examples exactly, and the examples' output too. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const path = (name: string) => fileURLToPath(new URL(`../../${name}`, import.meta.url));
const read = (name: string) => readFileSync(path(name), 'utf8');

test('docs/lend-and-revoke.md', () => {
  const page = read('docs/lend-and-revoke.md');
  const example = read('examples/lend.ts');
  assert.ok(page.includes(`\`\`\`ts\n${example}\`\`\``), 'the example as it is');
  const [, printed] = /\$ node --import tsx examples\/lend\.ts .*\n([\s\S]*?)```/.exec(page)!;
  const args = [
    '--conditions=barter-source',
    '--import',
    'tsx',
    path('examples/lend.ts'),
    path('examples/two-peers.yaml'),
  ];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  assert.equal(stderr, '');
  assert.equal(stdout, printed);
  assert.equal(status, 0);
});
