import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { buildMachine } from '../../src/machine/build.ts';
import { loadMachine } from '../../src/machine/load.ts';
import { EngineBackend } from '../../src/scenario/engine/backend.ts';
import { loadScenario } from '../../src/scenario/load.ts';
import { runScenario } from '../../src/scenario/run.ts';
import { PROFILES } from '../../src/vfio/profile.ts';

/** The numbered facts that guests cannot show, and the tests that check them on the engine alone. */
const ENGINE_ALONE: Record<number, string> = {
  10: 'references are inside: test/verify/product.test.ts counts registrations, the mutant L4 puts the defect back',
  20: 'the order of locks is inside: the lock witness of the explorer',
  22: 'when a release runs is inside: the explorer closes descriptors at every point of a revoke',
  29: 'what an importer may do until its fences signal: scenarios revoke-vs-dma and close-vs-dma of the explorer',
  42: 'no endpoint of QEMU has a capability that is hidden: test/scenario/hidden-capabilities.test.ts',
};
const FACTS = 43;
const folders = ['../../lab/facts/', '../../lab/findings/'].map((folder) =>
  fileURLToPath(new URL(folder, import.meta.url)),
);
const files = folders.flatMap((folder) => readdirSync(folder).map((file) => `${folder}${file}`));

for (const file of files) {
  for (const profile of [PROFILES.default, PROFILES['linux-7.3']]) {
    test(`${file.split('/').slice(-2).join('/')} on ${profile.name}`, () => {
      const { scenario, machinePath } = loadScenario(file);
      const result = runScenario(scenario, new EngineBackend(buildMachine(loadMachine(machinePath)), profile));
      assert.deepEqual(result.blocked, []);
      assert.equal(result.steps.length, scenario.tasks.user.length);
      const unmet = result.steps.filter((step) => 'expected' in step);
      assert.deepEqual(unmet, []);
    });
  }
}

test('every numbered fact has its scenario, or a reason why only the engine is held to it', () => {
  const shown = new Set(files.flatMap((file) => loadScenario(file).scenario.facts ?? []));
  for (let fact = 1; fact <= FACTS; fact++) {
    assert.equal(shown.has(fact), !(fact in ENGINE_ALONE), `fact ${fact}`);
  }
});

test('docs/facts.md has a row for each fact, and names its scenarios', () => {
  const page = readFileSync(new URL('../../docs/facts.md', import.meta.url), 'utf8');
  const rows = new Map([...page.matchAll(/^\| <a id="fact-(\d+)">.*$/gm)].map((match) => [Number(match[1]), match[0]]));
  assert.deepEqual(
    [...rows.keys()],
    [...Array(FACTS).keys()].map((i) => i + 1),
  );
  for (const file of files) {
    const path = file.split('/').slice(-3).join('/');
    for (const fact of loadScenario(file).scenario.facts ?? [])
      assert.ok(rows.get(fact)?.includes(`(../${path})`), path);
  }
});
