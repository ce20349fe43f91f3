import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
import { cruise, type IConfiguration } from 'dependency-cruiser';

const config: string = new URL('../../.dependency-cruiser.mjs', import.meta.url).href;
const rules: IConfiguration = (await import(config)).default;

const folders: string[] = [];
after(() => folders.map((folder) => rmSync(folder, { recursive: true })));

/** Writes a small tree; returns each broken rule's name with the file that breaks it. */
async function broken(files: Record<string, string>): Promise<string[]> {
  const baseDir = mkdtempSync(join(tmpdir(), 'barter-arrows-'));
  folders.push(baseDir);
  for (const [path, text] of Object.entries({ 'package.json': '{}', ...files })) {
    mkdirSync(dirname(join(baseDir, path)), { recursive: true });
    writeFileSync(join(baseDir, path), text);
  }
  const tops = [...new Set(Object.keys(files).map((path) => path.split('/')[0]))];
  const { options, forbidden = [] } = rules;
  const { output } = await cruise(tops, { ...options, baseDir, validate: true, ruleSet: { forbidden } });
  if (typeof output === 'string') throw new Error(output);
  return output.summary.violations.map((found) => `${found.from}: ${found.rule.name}`).sort();
}

test('an import from a folder above is found, of a type as well', async () => {
  const files = {
    'src/vfio/core.ts': "import type { Server } from '../vfio-user/server.ts';\nexport type Core = Server;\n",
    'src/vfio-user/server.ts': 'export interface Server {}\n',
  };
  assert.deepEqual(await broken(files), ['src/vfio/core.ts: vfio-imports-downward']);
});

test('an import from a folder below is allowed', async () => {
  const files = {
    'src/vfio/core.ts': 'export interface Core {}\n',
    'src/vfio-user/server.ts': "export type { Core } from '../vfio/core.ts';\n",
  };
  assert.deepEqual(await broken(files), []);
});

test('a circle of types through three files is found', async () => {
  const files = {
    'src/device/a.ts': "import type { B } from './b.ts';\nexport type A = B[];\n",
    'src/device/b.ts': "import type { C } from './c.ts';\nexport type B = C[];\n",
    'src/device/c.ts': "import type { A } from './a.ts';\nexport type C = { a: A };\n",
  };
  assert.deepEqual(await broken(files), ['src/device/a.ts: no-circles']);
});

test('a circle is allowed inside pci/ and task/, and nowhere beyond', async () => {
  const circle = (folder: string) => ({
    [`src/${folder}/a.ts`]: "import type { B } from './b.ts';\nexport type A = B[];\n",
    [`src/${folder}/b.ts`]: "import type { A } from './a.ts';\nexport interface B { a: A }\n",
  });
  assert.deepEqual(await broken({ ...circle('pci'), ...circle('task') }), []);
  assert.deepEqual(await broken(circle('dma-buf')), ['src/dma-buf/a.ts: no-circles']);
});

test('a folder without a place, a file that is missing and a reach out of src/ are found', async () => {
  const files = {
    'src/pci/port.ts': "import './none.ts';\nimport '../misc/helpers.ts';\nimport '../../lab/guest.ts';\n",
    'src/misc/helpers.ts': 'export {};\n',
    'lab/guest.ts': 'export {};\n',
  };
  const names = ['folder-is-known', 'library-stands-alone', 'what-is-imported-exists'];
  assert.deepEqual(
    await broken(files),
    names.map((name) => `src/pci/port.ts: ${name}`),
  );
});
