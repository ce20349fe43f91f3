/** Scenarios of the product in which invariants see states between steps that commute otherwise. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findProgram } from '../../src/verify/catalogue.ts';
import { explore } from '../../src/verify/explore.ts';
import { everyClass } from '../explore/every-class.ts';

/** For each scenario: its orders, and those without invariants. docs/exploring-your-own-code.md names them. */
const ORDERS: Record<string, [sound: number, without: number]> = {
  'revoke-vs-release': [22, 9],
  'close-vs-release': [38, 16],
  'export-table-full': [8, 5],
  'revoke-vs-map': [5, 5],
};

const MAX_PREFIXES = 1_000;

for (const [scenario, [sound, without]] of Object.entries(ORDERS)) {
  test(`${scenario}: ${sound} orders, ${without} without its invariants, as brute force says`, async () => {
    const program = findProgram(scenario);
    const all = everyClass(program, MAX_PREFIXES)!;
    assert.deepEqual([all.orders, [...all.findings]], [sound, []]);
    assert.equal(everyClass(program, MAX_PREFIXES, false)!.orders, without);
    const { executions, blocked, complete, bug } = await explore({ scenario });
    assert.deepEqual(
      { executions, blocked, complete, bug },
      { executions: sound, blocked: 0, complete: true, bug: null },
    );
  });
}
