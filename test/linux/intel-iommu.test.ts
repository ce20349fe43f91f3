import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { readIommuPages } from '../../src/linux/intel-iommu.ts';

test('pages of every size are read from the page tables as debugfs shows them', () => {
  const root = mkdtempSync(join(tmpdir(), 'barter-iommu-'));
  try {
    mkdirSync(join(root, '0000:01:00.0'));
    const entry = (value: bigint) => `0x${value.toString(16).padStart(16, '0')}`;
    const table = [0n, 0x104001003n, 0x104002003n];
    const lines = [
      'Device 0000:01:00.0 @0x104000000',
      'IOVA_PFN         \tPML5E             \tPML4E             \tPDPE              \tPDE               \tPTE',
      `0x${0x100n.toString(16).padStart(13, '0')} |\t${[...table, 0x104003003n, 0x70000001003n].map(entry).join('\t')}`,
      `0x${0x200n.toString(16).padStart(13, '0')} |\t${[...table, 0x8000_0700_0020_0083n].map(entry).join('\t')}`,
      `0x${0x40000n.toString(16).padStart(13, '0')} |\t${[0n, 0x104001003n, 0x70040000083n].map(entry).join('\t')}`,
      '',
    ];
    writeFileSync(join(root, '0000:01:00.0', 'domain_translation_struct'), lines.join('\n'));
    assert.deepEqual(readIommuPages('01:00.0', root), [
      { iova: 0x100000, sizeBytes: 0x1000, address: 0x70000001000 },
      { iova: 0x200000, sizeBytes: 0x200000, address: 0x70000200000 },
      { iova: 0x40000000, sizeBytes: 0x40000000, address: 0x70040000000 },
    ]);
    mkdirSync(join(root, '0000:02:00.0'));
    writeFileSync(join(root, '0000:02:00.0', 'domain_translation_struct'), '');
    assert.deepEqual(readIommuPages('02:00.0', root), []);
    assert.throws(() => readIommuPages('03:00.0', root), /ENOENT/);
  } finally {
    rmSync(root, { recursive: true });
  }
});
