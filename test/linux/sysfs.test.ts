import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Errno } from '../../src/abi/errno.ts';
import {
  bindToVfioPci,
  findBar,
  listPciDevices,
  normalizeBdf,
  readPciDevice,
  unbindFromVfioPci,
} from '../../src/linux/sysfs.ts';

const BDF = '0000:01:00.0';

/** A /sys/bus/pci with one device like igb: 32-bit memory, I/O, MSI-X BAR, ROM, a 64-bit prefetchable BAR. */
function withSysfs(body: (root: string, folder: string) => void): void {
  const root = mkdtempSync(join(tmpdir(), 'barter-sysfs-'));
  try {
    const folder = join(root, 'devices', BDF);
    mkdirSync(folder, { recursive: true });
    mkdirSync(join(root, 'drivers', 'igb'), { recursive: true });
    const zero = '0x0000000000000000 0x0000000000000000 0x0000000000000000';
    const resource = [
      '0x00000000fe000000 0x00000000fe01ffff 0x0000000000040200',
      zero,
      '0x000000000000c000 0x000000000000c01f 0x0000000000040101',
      zero,
      '0x0000000800000000 0x00000009ffffffff 0x000000000014220c',
      zero,
      '0x00000000fe080000 0x00000000fe0fffff 0x0000000000046200',
      ...new Array(6).fill(zero),
    ];
    writeFileSync(join(folder, 'resource'), `${resource.join('\n')}\n`);
    writeFileSync(join(folder, 'config'), Buffer.alloc(256, 0xab));
    writeFileSync(join(folder, 'vendor'), '0x8086\n');
    writeFileSync(join(folder, 'device'), '0x10c9\n');
    writeFileSync(join(folder, 'class'), '0x020000\n');
    symlinkSync('../../../kernel/iommu_groups/13', join(folder, 'iommu_group'));
    symlinkSync('../../drivers/igb', join(folder, 'driver'));
    body(root, folder);
  } finally {
    rmSync(root, { recursive: true });
  }
}

test('a device is read with its BARs, group and driver', () => {
  withSysfs((root) => {
    assert.deepEqual(listPciDevices(root), [BDF]);
    const { config, ...rest } = readPciDevice('01:00.0', root);
    assert.equal(config.length, 256);
    assert.deepEqual(rest, {
      bdf: BDF,
      vendor: 0x8086,
      device: 0x10c9,
      classCode: 0x020000,
      bars: [
        { index: 0, kind: 'mem32', prefetchable: false, sizeBytes: 0x20000 },
        { index: 2, kind: 'io', prefetchable: false, sizeBytes: 32 },
        { index: 4, kind: 'mem64', prefetchable: true, sizeBytes: 8 * 2 ** 30 },
      ],
      romSizeBytes: 0x80000,
      iommuGroup: 13,
      driver: 'igb',
      physfn: null,
      vpd: null,
    });
  });
});

test('vital product data are read where the kernel has a file of them, and may be read by root alone', () => {
  withSysfs((root, folder) => {
    const path = join(folder, 'vpd');
    writeFileSync(path, Buffer.from('8201004178', 'hex'));
    assert.equal(Buffer.from(readPciDevice(BDF, root).vpd!).toString('hex'), '8201004178');
    // A file that cannot be read: here a folder stands for the errno.
    rmSync(path);
    mkdirSync(path);
    assert.equal(readPciDevice(BDF, root).vpd, null);
  });
});

test('addresses are normalised, and what is none or not there is refused with what there is', () => {
  assert.equal(normalizeBdf('1:2.3'), '0000:01:02.3');
  assert.equal(normalizeBdf('10000:E1:00.0'), '10000:e1:00.0');
  for (const bad of ['', '01:00', '01:00.8', '../devices', 'x:0.0']) {
    assert.throws(
      () => normalizeBdf(bad),
      (e: Errno) => e.code === 'EINVAL',
    );
  }
  withSysfs((root) => {
    assert.throws(() => readPciDevice('02:00.0', root), /ENODEV: no PCI device 0000:02:00.0; there are: 0000:01:00.0/);
  });
});

test('an address is found in the BAR that it lies in, or in none', () => {
  withSysfs((root) => {
    assert.deepEqual(findBar(BDF, 0xfe000000, root), { index: 0, offset: 0 });
    assert.deepEqual(findBar(BDF, 0x8_0000_1000, root), { index: 4, offset: 0x1000 });
    assert.equal(findBar(BDF, 0xfe020000, root), null);
    assert.equal(findBar(BDF, 0, root), null);
  });
});

test('binding overrides, unbinds and probes; a kernel that does not bind is an error', () => {
  withSysfs((root, folder) => {
    // Plain files do nothing, so the device stays with its driver.
    assert.throws(() => bindToVfioPci(BDF, root), /ENODEV: 0000:01:00.0 did not bind to vfio-pci/);
    assert.equal(readFileSync(join(folder, 'driver_override'), 'utf8'), 'vfio-pci');
    assert.equal(readFileSync(join(root, 'drivers', 'igb', 'unbind'), 'utf8'), BDF);
    assert.equal(readFileSync(join(root, 'drivers_probe'), 'utf8'), BDF);
  });
});

test('the PCI devices of this machine, where it has any, can all be read', () => {
  for (const bdf of listPciDevices()) {
    const device = readPciDevice(bdf);
    assert.ok([64, 256, 4096].includes(device.config.length), `${bdf}: config of ${device.config.length} bytes`);
    assert.equal(Buffer.from(device.config).readUInt16LE(0), device.vendor);
  }
});

test('giving a device back clears the override, lets vfio-pci go and probes', () => {
  withSysfs((root, folder) => {
    unbindFromVfioPci(BDF, root);
    assert.equal(readFileSync(join(folder, 'driver_override'), 'utf8'), '\n');
    assert.equal(readFileSync(join(root, 'drivers_probe'), 'utf8'), BDF);
    assert.throws(() => readFileSync(join(root, 'drivers', 'igb', 'unbind')), /ENOENT/);
  });
});
