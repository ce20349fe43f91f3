/** Defects planted in Barter's server: the rule that is about each must find it, and holds without it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { conformServer } from '../../src/conform/engine.ts';
import { RULES } from '../../src/conform/rules/catalogue.ts';
import { ServerCommand } from '../../src/conform/server.ts';

const PROGRAM = fileURLToPath(new URL('mutant-server.ts', import.meta.url));

/** Each defect, the rule that finds it, and the verdict. */
const FOUND: readonly (readonly [defect: string, rule: string, verdict: string])[] = [
  ['other-id', 'header.id-is-echoed', 'broken'],
  ['argsz-of-info', 'info.argsz-of-reply', 'broken'],
  ['later-minor', 'version.minor-is-not-higher', 'broken'],
  ['accepts-overlaps', 'map.overlap-same', 'broken'],
  ['silent-reset', 'reset.twice', 'hangs'],
  ['keeps-descriptors', 'irq.replaced-descriptors-are-closed', 'broken'],
  ['answers-no-reply', 'header.no-reply', 'broken'],
  ['short-reads', 'access.read-brings-count', 'broken'],
  ['huge-regions', 'region.config-size', 'broken'],
  ['dies-of-silence', 'header.close-at-once', 'crashes'],
];

async function verdicts(defect: string, ids: readonly string[]): Promise<Record<string, string>> {
  const command = [process.execPath, '--conditions=barter-source', '--import', 'tsx', PROGRAM, defect, '{socket}'];
  const server = new ServerCommand(command);
  try {
    const rules = RULES.filter(({ id }) => ids.includes(id));
    assert.equal(rules.length, ids.length, ids.join(', '));
    const results = await conformServer(server, rules, { timeoutMs: 2000, drivers: [] });
    return Object.fromEntries(results.map(({ id, verdict }) => [id, verdict]));
  } finally {
    await server.dispose();
  }
}

test('without a defect, all of the rules hold', async () => {
  const ids = FOUND.map(([, id]) => id);
  assert.deepEqual(await verdicts('none', ids), Object.fromEntries(ids.map((id) => [id, 'holds'])));
});

for (const [defect, rule, verdict] of FOUND) {
  test(`${defect} is found by ${rule}`, async () => {
    assert.deepEqual(await verdicts(defect, [rule]), { [rule]: verdict });
  });
}
