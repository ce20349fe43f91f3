import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Change } from '../../lab/kernel/series.ts';
import { seriesAsPatch } from '../../lab/kernel/series-diff.ts';

const SOURCE = 'int first(int a)\n{\n\treturn a;\n}\n\nint second(int a)\n{\n\treturn a;\n}\n';

test('edits become patches that patch(1) applies in order, each upon the last', () => {
  const folder = mkdtempSync(join(tmpdir(), 'barter-series-'));
  try {
    mkdirSync(join(folder, 'lib'));
    writeFileSync(join(folder, 'lib/a.c'), SOURCE);
    const edit = (name: string, put: string): Change => ({
      kind: 'edit',
      title: `lib: change ${name}`,
      why: 'It is a test.',
      edits: [{ file: 'lib/a.c', function: name, find: '\\treturn a;', at: 'instead', put }],
    });
    const patch = seriesAsPatch(folder, [edit('first', '\treturn 1;'), edit('second', '\treturn 2;')]);
    assert.match(patch, /^Subject: \[PATCH\] lib: change first\n\nIt is a test\.\n---\n--- a\/lib\/a\.c\n/);
    assert.match(patch, /@@ .* @@ int second\(int a\)|\n {1}int second/);
    const { status, stdout } = spawnSync('patch', ['-p1', '-d', folder], { input: patch, encoding: 'utf8' });
    assert.equal(status, 0, stdout);
    assert.equal(
      readFileSync(join(folder, 'lib/a.c'), 'utf8'),
      SOURCE.replace('return a', 'return 1').replace('return a', 'return 2'),
    );
    assert.throws(() => seriesAsPatch(folder, [edit('third', '')]), /lib\/a\.c has no function third/);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
