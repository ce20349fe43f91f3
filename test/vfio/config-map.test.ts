/** The capability of each byte, in valid and invalid lists. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PCI_STATUS, PCI_STATUS_CAP_LIST } from '../../src/abi/pci_regs.ts';
import { ConfigMap, configMapOf, OWNER_HEADER, OWNER_NONE } from '../../src/vfio/config-map.ts';
import { configOf, opened } from './rig.ts';

const shown = (map: ConfigMap) => map.capabilities.map(({ id, start, length }) => [id, start, length]);

test('each byte has one owner: the header, a capability, or nobody', () => {
  const map = new ConfigMap(
    configOf(
      [
        { id: 0x01, at: 0x40 },
        { id: 0x13, at: 0x48 },
      ],
      [{ id: 0x03, at: 0x100 }],
    ),
  );
  assert.deepEqual(shown(map), [
    [0x01, 0x40, 8],
    [0x13, 0x48, 6],
    [0x03, 0x100, 12],
  ]);
  assert.deepEqual([map.owner[0x3f], map.owner[0x40], map.owner[0x47], map.owner[0x48]], [OWNER_HEADER, 0, 0, 1]);
  assert.deepEqual(
    [map.owner[0x4d], map.owner[0x4e], map.owner[0x10b], map.owner[0x10c]],
    [1, OWNER_NONE, 2, OWNER_NONE],
  );
  assert.equal(map.find(0x13)?.start, 0x48);
  assert.equal(map.find(0x03), undefined);
  assert.equal(map.find(0x03, true)?.start, 0x100);
});

test('a list that loops, or points into the header, ends; every member is shown once', () => {
  for (const next of [0x40, 0x50, 0x10, 0x3c]) {
    const config = configOf([
      { id: 0x01, at: 0x40 },
      { id: 0x13, at: 0x50 },
    ]);
    config.set(0x51, 1, next);
    assert.deepEqual(
      new ConfigMap(config).capabilities.map(({ start }) => start),
      [0x40, 0x50],
      `0x${next.toString(16)}`,
    );
  }
  const extended = configOf(
    [],
    [
      { id: 0x03, at: 0x100 },
      { id: 0x18, at: 0x200 },
    ],
  );
  extended.set(0x200, 4, 0x10010018);
  assert.deepEqual(
    new ConfigMap(extended).capabilities.map(({ start }) => start),
    [0x100, 0x200],
  );
});

test('a list that STATUS does not announce is not there, and its bytes are the hardware’s', () => {
  const config = configOf([{ id: 0x01, at: 0x40 }]);
  config.set(PCI_STATUS, 2, 0);
  const map = new ConfigMap(config);
  assert.deepEqual(shown(map), []);
  assert.equal(map.owner[0x40], OWNER_NONE);
});

test('with nothing left of it, a list is announced no more, and the extended one has an empty head', () => {
  const { read, fn } = opened(
    configOf(
      [{ id: 0x04, at: 0x40 }],
      [
        { id: 0x1b, at: 0x100 },
        { id: 0x2e, at: 0x200 },
      ],
    ),
  );
  assert.equal(read(PCI_STATUS, 2) & PCI_STATUS_CAP_LIST, 0);
  assert.equal(fn.config.read(PCI_STATUS, 2) & PCI_STATUS_CAP_LIST, PCI_STATUS_CAP_LIST);
  assert.deepEqual([read(0x34, 1), read(0x100, 4)], [0, 0]);
});

test('a hidden head keeps its place; what is hidden behind it is skipped', () => {
  const { read } = opened(
    configOf(
      [],
      [
        { id: 0x1b, at: 0x100 },
        { id: 0x2e, at: 0x200 },
        { id: 0x03, at: 0x300 },
        { id: 0x19, at: 0x400 },
      ],
    ),
  );
  assert.deepEqual([read(0x100, 4), read(0x300, 4)], [0x30000000, 0x00010003]);
});

test('a capability ends with its config space, and a vendor’s with no length is hidden', () => {
  const map = new ConfigMap(
    configOf(
      [
        { id: 0x09, at: 0x40, registers: { 0: 0 } },
        { id: 0x10, at: 0xe0, registers: { 0: 0x00020000 } },
      ],
      [
        { id: 0x01, at: 0x100 },
        { id: 0x0b, at: 0xff0, registers: { 4: 0xfff00000 } },
      ],
    ),
  );
  assert.deepEqual(shown(map), [
    [0x10, 0xe0, 0x20],
    [0x01, 0x100, 0x2c],
    [0x0b, 0xff0, 0x10],
  ]);
});

test('two capabilities of one id side by side are two', () => {
  const { read } = opened(
    configOf(
      [],
      [
        { id: 0x0b, at: 0x100, registers: { 4: 0x01000000 } },
        { id: 0x0b, at: 0x110, registers: { 4: 0x01000000 } },
        { id: 0x1b, at: 0x120 },
        { id: 0x03, at: 0x140 },
      ],
    ),
  );
  assert.equal(read(0x110, 4) >>> 20, 0x140);
});

test('functions of a kind share a map, and those that differ in one byte do not', () => {
  const config = () => configOf([{ id: 0x01, at: 0x40 }]);
  const first = config();
  assert.equal(configMapOf(first, first.snapshot()), configMapOf(config(), first.snapshot()));
  const other = configOf([{ id: 0x13, at: 0x40 }]);
  assert.notEqual(configMapOf(first, first.snapshot()), configMapOf(other, other.snapshot()));
});
