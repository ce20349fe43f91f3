/** The kernels that --kernel PATH finds, without booting any. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { findKernel } from '../../lab/kernel/kernels.ts';
import { kconfigFragment, parseConfig, unmetNeeds } from '../../lab/kernel/needs.ts';

let tree: string;
beforeEach(() => {
  tree = mkdtempSync(join(tmpdir(), 'barter-tree-'));
  put('Kconfig', '', 100);
  put('.config', kconfigFragment(), 100);
  put('drivers/a.c', '', 100);
  put('drivers/unused.c', '', 100);
  put('drivers/.a.o.cmd', 'savedcmd_drivers/a.o := gcc\nsource_drivers/a.o := drivers/a.c\n', 200);
  put('vmlinux', '\x7fELF', 200);
  put('arch/x86/boot/bzImage', '', 300);
});
afterEach(() => rmSync(tree, { recursive: true, force: true }));

function put(path: string, text: string, seconds: number): void {
  const file = join(tree, path);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text);
  utimesSync(file, seconds, seconds);
}

test('the fragment meets every need; without it each is named with what to do', () => {
  assert.deepEqual(unmetNeeds(parseConfig(kconfigFragment())), []);
  const unmet = unmetNeeds(parseConfig(kconfigFragment().replace('CONFIG_VFIO_PCI_DMABUF=y', '')));
  assert.deepEqual(unmet, [
    'CONFIG_VFIO_PCI_DMABUF is not set (VFIO_DEVICE_FEATURE_DMA_BUF); scripts/config -e VFIO_PCI_DMABUF',
  ]);
  assert.match(
    unmetNeeds(parseConfig(kconfigFragment().replace('SERIAL_8250=y', 'SERIAL_8250=m')))[0],
    /is m and must/,
  );
});

test('a tree that is built boots its bzImage', () => {
  assert.equal(findKernel(tree).image(), join(tree, 'arch/x86/boot/bzImage'));
});

test('a kernel without an option of the lab is refused', () => {
  put('.config', kconfigFragment().replace('CONFIG_VFIO_PCI=y', '# CONFIG_VFIO_PCI is not set'), 100);
  assert.throws(() => findKernel(tree), /CONFIG_VFIO_PCI is not set .*scripts\/config -e VFIO_PCI/);
});

test('a build that is older than what it is made of is refused, and one of other files is not', () => {
  put('drivers/unused.c', '', 400);
  assert.equal(findKernel(tree).image(), join(tree, 'arch/x86/boot/bzImage'));
  put('drivers/a.c', '', 400);
  assert.throws(() => findKernel(tree), /drivers\/a\.c is newer than arch\/x86\/boot\/bzImage: build the kernel again/);
});

test('a bzImage that is older than its vmlinux is refused', () => {
  put('vmlinux', '\x7fELF', 400);
  assert.throws(() => findKernel(tree), /a bzImage that is older than its vmlinux: make -C .* bzImage/);
});
