/** Every extended capability: its length, its bits in the user's copy, and its writable bits. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EXTENDED_CAPABILITIES } from '../../../src/vfio/perms/extended.ts';
import { configOf, opened } from '../rig.ts';
import { checkHidden, checkRule, type Expected, type Field } from './rules.ts';

const UNCORRECTABLE = 0x03fff031;
const CORRECTABLE = 0xf1c1;
const AER: Field[] = [
  [0x04, 4, 0, UNCORRECTABLE],
  [0x08, 4, 0, UNCORRECTABLE],
  [0x0c, 4, 0, UNCORRECTABLE],
  [0x10, 4, 0, CORRECTABLE],
  [0x14, 4, 0, CORRECTABLE],
  [0x18, 4, 0, 0x140],
];

const EXPECTED: Expected[] = [
  { name: 'ERR', id: 0x01, length: 0x2c, fields: AER },
  { name: 'VC', id: 0x02, length: 0x1c },
  { name: 'VC, eight channels', id: 0x02, registers: { 4: 7 }, length: 0x70 },
  { name: 'VC, 32 phases', id: 0x02, registers: { 8: 2 }, length: 0x20 + 16 },
  { name: 'VC, 64 phases', id: 0x02, registers: { 4: 1, 8: 6 }, length: 0x30 + 32 },
  { name: 'VC, 128 phases', id: 0x02, registers: { 8: 14 }, length: 0x20 + 64 },
  { name: 'DSN', id: 0x03, length: 12 },
  { name: 'PWR', id: 0x04, length: 16, fields: [[8, 1, 0, 0xff]] },
  { name: 'MFVC', id: 0x08, length: 0x1c },
  { name: 'VC9', id: 0x09, registers: { 4: 1 }, length: 0x28 },
  { name: 'VNDR', id: 0x0b, registers: { 4: 0x01800000 }, length: 0x18, raw: true },
  { name: 'ACS', id: 0x0d, length: 8 },
  { name: 'ACS, 33 ports', id: 0x0d, registers: { 4: 0x2120 }, length: 16 },
  { name: 'ACS, 256 ports', id: 0x0d, registers: { 4: 0x20 }, length: 40 },
  { name: 'ARI', id: 0x0e, length: 8 },
  { name: 'ATS', id: 0x0f, length: 8 },
  { name: 'SRIOV', id: 0x10, length: 0x40 },
  { name: 'MCAST', id: 0x12, length: 40 },
  { name: 'PRI', id: 0x13, length: 16 },
  { name: 'REBAR', id: 0x15, registers: { 8: 0x40 }, length: 20 },
  { name: 'DPA', id: 0x16, length: 17 },
  { name: 'DPA, 32 substates', id: 0x16, registers: { 4: 31 }, length: 48 },
  { name: 'TPH', id: 0x17, length: 12 },
  { name: 'TPH, tags here', id: 0x17, registers: { 4: 0x00030200 }, length: 20 },
  { name: 'TPH, tags in MSI-X', id: 0x17, registers: { 4: 0x00030400 }, length: 12 },
  { name: 'LTR', id: 0x18, length: 8 },
  { name: 'DVSEC', id: 0x23, registers: { 4: 0x00c00000 }, length: 12, raw: true },
];

for (const expected of EXPECTED) test(`${expected.name}: every byte`, () => checkRule(expected, true));

test('all other ids are hidden, PASID among them, and the table has no more than these', () => {
  const shown = new Set(EXPECTED.map(({ id }) => id));
  assert.deepEqual([...EXTENDED_CAPABILITIES.keys()].sort(), [...shown].sort());
  for (let id = 1; id < 0x40; id++) if (!shown.has(id)) checkHidden(id, true);
  assert.ok(!shown.has(0x1b));
});

test('AER: errors are cleared by ones, and a write of some leaves the others', () => {
  const at = 0x100;
  const config = configOf([], [{ id: 1, at }]);
  config.allow(at + 4, 4, 0, 0xffffffff);
  config.allow(at + 0x10, 4, 0, 0xffffffff);
  const { fn, read, write } = opened(config);
  fn.config.set(at + 4, 4, 0x00144000);
  fn.config.set(at + 0x10, 4, 0x2001);
  write(at + 4, 4, 0x00100000);
  assert.equal(read(at + 4, 4), 0x00044000);
  write(at + 5, 1, 0x40);
  assert.equal(read(at + 4, 4), 0x00040000);
  write(at + 0x10, 4, 0x2000);
  assert.equal(read(at + 0x10, 4), 1);
});
