/**
 * Every capability of the first 256 bytes: its length, its bits in the user's copy, its writable bits, and the side
 * effects of writes.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Vpd } from '../../../src/pci/vpd.ts';
import { STANDARD_CAPABILITIES } from '../../../src/vfio/perms/standard.ts';
import { configOf, opened, type Placed } from '../rig.ts';
import { checkHidden, checkRule, type Expected, type Field } from './rules.ts';

const ALL = 0xffffffff;
const PME = 0x8100;
const MSI_32: Field[] = [
  [2, 1, ALL, ALL],
  [4, 4, ALL, ALL],
  [8, 2, ALL, ALL],
];
const MSI_64: Field[] = [
  [2, 1, ALL, ALL],
  [4, 4, ALL, ALL],
  [8, 4, ALL, ALL],
  [12, 2, ALL, ALL],
];
/** Without SET_IRQS, Enable stays off, and so does every queue size. */
const MSI_FLAGS = { 2: { user: 0x8e, hardware: 0x8e } };

const EXPECTED: Expected[] = [
  {
    name: 'PM',
    id: 0x01,
    registers: { 0: 0xfe030000 },
    length: 8,
    fields: [
      [2, 2, 0xf800, 0],
      [4, 4, PME, ~(PME | 3)],
    ],
    // D3hot, which vfio sets itself.
    afterOnes: { 4: { user: 0xff, hardware: 0xff } },
  },
  { name: 'AGP', id: 0x02, length: 12 },
  {
    name: 'VPD',
    id: 0x03,
    length: 8,
    fields: [
      [2, 2, ALL, ALL],
      [4, 4, ALL, ALL],
    ],
  },
  { name: 'MSI, 32 bits', id: 0x05, length: 10, fields: MSI_32, afterOnes: MSI_FLAGS },
  {
    name: 'MSI, 64 bits',
    id: 0x05,
    registers: { 0: 0x00800000 },
    length: 14,
    fields: MSI_64,
    afterOnes: MSI_FLAGS,
  },
  {
    name: 'MSI, 32 bits, masks',
    id: 0x05,
    registers: { 0: 0x01000000 },
    length: 20,
    fields: [...MSI_32, [12, 4, 0, ALL], [16, 4, 0, ALL]],
    afterOnes: MSI_FLAGS,
  },
  {
    name: 'MSI, 64 bits, masks',
    id: 0x05,
    registers: { 0: 0x01800000 },
    length: 24,
    fields: [...MSI_64, [16, 4, 0, ALL], [20, 4, 0, ALL]],
    afterOnes: MSI_FLAGS,
  },
  { name: 'PCI-X', id: 0x07, length: 8, fields: [[2, 2, 0, ALL]] },
  {
    name: 'PCI-X version 2',
    id: 0x07,
    registers: { 0: 0x20000000 },
    length: 24,
    fields: [
      [2, 2, 0, ALL],
      [8, 4, 0, ALL],
    ],
  },
  { name: 'HT, host', id: 0x08, registers: { 0: 0x20000000 }, length: 24 },
  { name: 'HT, slave', id: 0x08, length: 28 },
  { name: 'VNDR', id: 0x09, registers: { 0: 0x00140000 }, length: 20, raw: true },
  { name: 'Express 1', id: 0x10, registers: { 0: 0x00010000 }, length: 20, fields: [[8, 2, 0xf0e0, ~0x8200]] },
  {
    name: 'Express 1, integrated',
    id: 0x10,
    registers: { 0: 0x00910000 },
    length: 12,
    fields: [[8, 2, 0xf0e0, ~0x8200]],
  },
  {
    name: 'Express 2',
    id: 0x10,
    registers: { 0: 0x00020000 },
    length: 0x34,
    fields: [
      [8, 2, 0xf0e0, ~0x8200],
      [0x28, 2, 0, ~0x20],
    ],
  },
  {
    name: 'Express 2, integrated',
    id: 0x10,
    registers: { 0: 0x00920000 },
    length: 0x2c,
    fields: [
      [8, 2, 0xf0e0, ~0x8200],
      [0x28, 2, 0, ~0x20],
    ],
  },
  { name: 'MSI-X', id: 0x11, length: 12 },
  { name: 'SATA', id: 0x12, length: 8 },
  { name: 'SATA, inline', id: 0x12, registers: { 4: 0xf }, length: 16 },
  { name: 'AF', id: 0x13, length: 6, fields: [[4, 1, 1, 0]] },
];

for (const expected of EXPECTED) test(`${expected.name}: every byte`, () => checkRule(expected, false));

test('all other ids are hidden, and the table has no more than these', () => {
  const shown = new Set(EXPECTED.map(({ id }) => id));
  assert.deepEqual([...STANDARD_CAPABILITIES.keys()].sort(), [...shown].sort());
  for (let id = 0; id < 0x100; id++) if (!shown.has(id)) checkHidden(id, false);
});

test('VPD: the flag turns when the data are there, or taken; not where nothing answers', () => {
  const at = 0x50;
  const config = () => configOf([{ id: 3, at }]);
  const vpd = Vpd.named('Barter', 8);
  const { read, write } = opened(config(), { vpd });
  write(at + 2, 2, 0);
  assert.equal(read(at + 2, 2), 0x8000);
  // The tag of the identifier, its length, and its first letter.
  assert.equal(read(at + 4, 4), 0x42000682);
  // The low byte alone is an address, and writing it starts nothing.
  write(at + 2, 1, 4);
  assert.deepEqual([read(at + 2, 2), read(at + 4, 4)], [0x8004, 0x42000682]);
  write(at + 2, 4, 0xffff_0004);
  write(at + 2, 2, 4);
  assert.equal(read(at + 4, 4).toString(16), Buffer.from('arte').readUInt32LE().toString(16));
  // Beyond the end there is nothing to read or write.
  write(at + 2, 2, 0x7000);
  assert.deepEqual([read(at + 2, 2), read(at + 4, 4)], [0xf000, 0]);
  write(at + 2, 2, 0xf000);
  assert.equal(read(at + 2, 2), 0xf000);
  const silent = opened(config());
  silent.write(at + 2, 2, 0x10);
  assert.equal(silent.read(at + 2, 2), 0x10);
  silent.write(at + 2, 2, 0x8010);
  assert.equal(silent.read(at + 2, 2), 0x8010);
});

test('VPD: what is written in the read-write fields comes back, and nowhere else', () => {
  const at = 0x50;
  const { read, write } = opened(configOf([{ id: 3, at }]), { vpd: Vpd.named('Barter', 16) });
  const put = (address: number, value: number): void => {
    write(at + 4, 4, value);
    write(at + 2, 2, 0x8000 | address);
    assert.equal(read(at + 2, 2), address, 'the flag turned');
  };
  const get = (address: number): number => {
    write(at + 2, 2, address);
    return read(at + 4, 4);
  };
  const before = get(0);
  put(0, 0x12345678);
  put(24, 0x12345678);
  assert.deepEqual([get(0), get(24)], [before, 0x12345678]);
});

test('MSI: on by SET_IRQS alone, and for no more vectors than it asked for', () => {
  const at = 0x50;
  const { fn, read, write } = opened(configOf([{ id: 5, at, registers: { 0: 0x00880000 } }]));
  write(at + 2, 2, 0x0071);
  assert.deepEqual([read(at + 2, 2), fn.config.read(at + 2, 2)], [0x0000, 0x0000]);
});

test('Express: the hardware follows the read request, but never below its payload, nor to a reserved size', () => {
  const at = 0x50;
  const { fn, read, write } = opened(configOf([{ id: 0x10, at, registers: { 0: 0x00020000, 8: 0x2020 } }]));
  const request = () => (fn.config.read(at + 8, 2) >> 12) & 7;
  for (const [wanted, got] of [
    [5, 5],
    [0, 1],
    [3, 3],
    [6, 3],
    [7, 3],
  ]) {
    write(at + 8, 2, wanted << 12);
    assert.deepEqual([read(at + 8, 2) >> 12, request()], [wanted, got]);
  }
});

test('Express and AF: an FLR is ordered by its bit, where the device has one, by a write of its byte alone too', () => {
  const express = { id: 0x10, at: 0x50, registers: { 0: 0x00020000, 4: 0x10000000 } };
  const without = { id: 0x10, at: 0x50, registers: { 0: 0x00020000 } };
  const af = { id: 0x13, at: 0x90, registers: { 0: 0x03060000 } };
  const afOfHalf = { id: 0x13, at: 0x90, registers: { 0: 0x02060000 } };
  const resetsOf = (placed: Placed, offset: number, size: 1 | 2 | 4, value: number): number => {
    let resets = 0;
    const { vdev, write, read } = opened(configOf([placed]));
    vdev.functionLevelReset = function* () {
      resets += 1;
    };
    write(placed.at + offset, size, value);
    assert.equal(read(placed.at + 4, 4) & 1, 0, 'the bit reads as 0');
    return resets;
  };
  assert.equal(resetsOf(express, 8, 2, 0x8000), 1);
  assert.equal(resetsOf(express, 9, 1, 0x80), 1);
  assert.equal(resetsOf(express, 8, 4, 0x8000), 1);
  assert.equal(resetsOf(express, 8, 1, 0x80), 0);
  assert.equal(resetsOf(without, 8, 2, 0x8000), 0);
  assert.equal(resetsOf(af, 4, 1, 1), 1);
  assert.equal(resetsOf(af, 4, 2, 1), 1);
  assert.equal(resetsOf(afOfHalf, 4, 1, 1), 0);
});
