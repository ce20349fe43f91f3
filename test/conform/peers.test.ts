/**
 * The kit on servers that nobody here wrote, where `barter lab peers` has built them: each verdict is the expected one.
 * Tries a part of the rules, or all with BARTER_PEERS=all. BARTER_UPDATE_GOLDEN=1 tries all and writes the files anew.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { FOREIGN_SERVERS, foreignPath } from '../../lab/peers/peers.ts';
import { RULES } from '../../src/conform/rules/catalogue.ts';
import { barter } from '../cli/barter.ts';

/** Rules that are quick to try, with at least one fault of each kind. */
const QUICK = ['header.id-is-echoed', 'header.close-at-once', 'access.read-odd', 'info.argsz-0', 'config.class'];
const QUICK_GROUPS = ['map', 'irq'];
const isUpdate = process.env.BARTER_UPDATE_GOLDEN === '1';
const isWhole = isUpdate || process.env.BARTER_PEERS === 'all';

const goldenPath = (name: string) => fileURLToPath(new URL(`golden/${name}.txt`, import.meta.url));

/** The verdicts of a file that are not `holds`, by the rule's id. */
function golden(name: string): Map<string, string> {
  const lines = readFileSync(goldenPath(name), 'utf8').trim().split('\n');
  return new Map(lines.map((line) => line.split(' ') as [string, string]));
}

for (const name of ['libvfio-user-server', 'qemu-edu']) {
  const server = FOREIGN_SERVERS.find((each) => each.name === name)!;
  const path = foreignPath(server);
  const skip = existsSync(path) ? false : `${name} is not built here: barter lab peers builds it`;

  test(`the golden file of ${name} names rules that exist, and ten faults or more`, { skip: isUpdate }, () => {
    const verdicts = golden(name);
    const ids = new Set(RULES.map(({ id }) => id));
    assert.deepEqual(
      [...verdicts.keys()].filter((id) => !ids.has(id)),
      [],
    );
    const faults = [...verdicts.values()].filter((verdict) => ['broken', 'hangs', 'crashes'].includes(verdict));
    assert.ok(faults.length >= 10, `${faults.length} faults`);
  });

  test(`each verdict on ${name} is the expected one`, { skip }, () => {
    const part = [...QUICK.flatMap((id) => ['--rule', id]), ...QUICK_GROUPS.flatMap((group) => ['--group', group])];
    const { stdout, stderr } = barter('conform', 'server', '--json', ...(isWhole ? [] : part), '--', path, '{socket}');
    assert.notEqual(stdout, '', stderr);
    const rules = JSON.parse(stdout).rules as { id: string; verdict: string }[];
    if (isUpdate) {
      const others = rules.filter(({ verdict }) => verdict !== 'holds');
      return writeFileSync(goldenPath(name), others.map(({ id, verdict }) => `${id} ${verdict}\n`).join(''));
    }
    const expected = golden(name);
    assert.deepEqual(
      rules
        .map(({ id, verdict }) => ({ id, verdict, was: expected.get(id) ?? 'holds' }))
        .filter(({ verdict, was }) => verdict !== was),
      [],
    );
  });
}
